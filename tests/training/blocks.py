"""Runs in blocks of a GPU on the CPU, by the kernels as csrc/tests/simt_shim.h compiles them."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dmf_fast.training.engines.cuda_block import CudaBlockEngine
from dmf_fast.training.engines.rule_engine import CudaEngine

COMPILER = os.environ.get("CXX", "c++")
ROOT = Path(__file__).resolve().parents[2]
STATE = np.dtype(
    [("step", np.int64), ("until", np.int64), ("square_average", np.float64), ("loss", np.float64),
     ("gradient_norm", np.float64), ("outcome", np.int64)]
)  # fmt: skip
TASK = np.dtype([("memory", np.uint64), ("state", STATE)])
Launch = list[tuple[int, int, int]]


class Blocks:
    """Stands in for a GPU.

    Attributes:
        shared_limit: what a block may have of shared memory, in bytes.
        launches: for every run of every launch its memory, and the steps at which it began and ended.
        before_launch: called with the number of launches so far.

    """

    def __init__(self) -> None:
        self.shared_limit, self._one_at_a_time = 227 * 1024, threading.Lock()
        self.launches: list[Launch] = []
        self.before_launch: Callable[[int], object] = lambda launches: None

    def descend(self, runs: Sequence[Tensor], states: Tensor, shared_bytes: int) -> None:
        """Do what ``torch.ops.dmf_fast.descend_blocks`` does."""
        with self._one_at_a_time:
            self._descend(runs, states, shared_bytes)

    def _descend(self, runs: Sequence[Tensor], states: Tensor, shared_bytes: int) -> None:
        self.before_launch(len(self.launches))
        given = states.numpy().view(STATE)
        tasks = np.zeros(len(runs), TASK)
        tasks["memory"], tasks["state"] = [run.data_ptr() for run in runs], given
        (number_bytes,) = {run.element_size() for run in runs}
        _kernels().descend_blocks(
            ctypes.c_void_p(tasks.ctypes.data), *map(ctypes.c_int64, (len(runs), number_bytes, shared_bytes))
        )
        ends = tasks["state"]["step"]
        self.launches.append(
            [
                (run.data_ptr(), *both)
                for run, *both in zip(runs, given["step"].tolist(), ends.tolist(), strict=True)
            ]
        )
        given[:] = tasks["state"]


@contextmanager
def blocks_on_cpu() -> Iterator[Blocks]:
    """Have the CPU make runs in blocks; where there is no compiler, the test is skipped."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no {COMPILER} here")
    blocks, library = Blocks(), torch.library.Library("dmf_fast", "IMPL")  # type: ignore[no-untyped-call]
    library.impl("descend_blocks", blocks.descend, "CPU")  # type: ignore[no-untyped-call]
    library.impl("block_shared_memory", lambda like: blocks.shared_limit, "CPU")  # type: ignore[no-untyped-call]
    try:
        with pytest.MonkeyPatch.context() as patch:
            # The engine's own check asks for a GPU.
            patch.setattr(CudaBlockEngine, "_check_problem", CudaEngine._check_problem)
            yield blocks
    finally:
        library._destroy()  # type: ignore[no-untyped-call]


@functools.cache
def _kernels() -> ctypes.CDLL:
    source, kernels = ROOT / "csrc" / "tests" / "block_runs.cpp", ROOT / "csrc" / "kernels"
    read = [source, *source.parent.glob("*.h"), *kernels.rglob("*.h"), *kernels.rglob("*.cuh")]
    digest = sha256(b"".join(path.read_bytes() for path in sorted(read))).hexdigest()[:16]
    library = ROOT / "build" / "tests" / f"block-runs-{digest}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        partial = library.with_suffix(f".{os.getpid()}")
        flags = ["-std=c++20", "-O2", "-fPIC", "-shared", "-ffp-contract=fast", "-Wno-unknown-pragmas"]
        subprocess.run([COMPILER, *flags, "-o", partial, source], check=True)
        partial.replace(library)
    return ctypes.CDLL(str(library))
