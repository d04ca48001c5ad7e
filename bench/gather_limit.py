"""The rate at which a GPU gathers the rows that a pass over the entries needs: the bound of the sparse path.

A pass reads a row of Bᵀ for every entry in row order and a row of A for every entry in column order. This
kernel does only that, in several shapes and, if a side is large, also with its rows cut into blocks that
stay in L2; the fastest counts. The kernel is compiled here if `make gpu-libraries` has not done so.
"""

from __future__ import annotations

import ctypes
import itertools
import subprocess
import tempfile
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.problems import Problem
from bench.timing import median_seconds

COMPILE = Path(__file__).resolve().with_name("gather_limit.sh")
BUILT = COMPILE.parent.parent / "build" / "gpu" / "gather_limit.so"
# Shapes of the kernel: how much one warp does, and how many loads it has in flight.
ENTRIES_A_WARP = (64, 128, 512)
DEPTHS = (4, 8)
BLOCK_BYTES = (None, 16 << 20)  # of the gathered side: uncut, or in blocks
ROUNDS = 3


def measure(problem: Problem) -> dict[str, Any]:
    """Return seconds of the gathers of a pass, the rate of their bytes and the fastest shape of both."""
    in_rows = _fastest(problem.rows, problem.columns, problem.b_transposed)
    in_columns = _fastest(problem.columns, problem.rows, problem.a)
    seconds = in_rows[1] + in_columns[1]
    gathered_bytes = 2 * 4 * problem.h * problem.nnz
    rate = gathered_bytes / seconds / 1e12
    return {"seconds": seconds, "terabytes_per_second": rate, "shapes": (in_rows[0], in_columns[0])}


def _fastest(lines: Tensor, gathered: Tensor, table: Tensor) -> tuple[str, float]:
    """Return the fastest way to read a row of `table` for every entry, and its seconds."""
    seconds: dict[str, float] = {}
    for block_bytes in BLOCK_BYTES:
        row_bytes = table.shape[1] * table.element_size()
        block = table.shape[0] if block_bytes is None else block_bytes // row_bytes
        if block_bytes is not None and block >= table.shape[0]:
            continue
        indices = indices_in_order(lines, gathered, table.shape[0], block)
        shapes = {
            f"blocks of {block} rows, {entries} entries a warp, {depth} loads in flight": partial(
                gather, table, indices, entries, depth
            )
            for entries, depth in itertools.product(ENTRIES_A_WARP, DEPTHS)
            if depth * 16 <= row_bytes
        }
        seconds |= median_seconds(shapes, ROUNDS, table.device)
    return min(seconds.items(), key=lambda item: item[1])


def indices_in_order(lines: Tensor, gathered: Tensor, gathered_count: int, block: int) -> Tensor:
    """Return the gathered index of every entry, sorted by block of gathered rows, line and index."""
    line_count = int(lines.max()) + 1
    keys = (gathered // block * line_count + lines) * gathered_count + gathered
    return keys.sort().values.remainder(gathered_count).int()


def gather(table: Tensor, indices: Tensor, entries_a_warp: int, depth: int) -> None:
    """Read a row of `table` for every index, on the current stream; torch does it where there is no GPU."""
    if table.device.type == "cpu":
        table.index_select(0, indices)
        return
    error = _library().gather_rows(
        table.data_ptr(),
        table.shape[1] * table.element_size(),
        indices.data_ptr(),
        indices.numel(),
        entries_a_warp,
        depth,
        table.data_ptr(),  # never written
        torch.cuda.current_stream().cuda_stream,
    )
    if error != 0:
        raise RuntimeError(f"the gather-only kernel did not start: CUDA error {error}")


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    if BUILT.is_file():
        library = ctypes.CDLL(str(BUILT))
    else:
        with tempfile.TemporaryDirectory() as folder:
            architecture = "sm_{}{}".format(*torch.cuda.get_device_capability())
            library = ctypes.CDLL(str(compiled(Path(folder), architecture)))
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    library.gather_rows.argtypes = [pointer, size, pointer, size, size, ctypes.c_int, pointer, pointer]
    return library


def compiled(folder: Path, architecture: str) -> Path:
    """Return the kernel as a shared library in `folder`."""
    built = folder / "gather_limit.so"
    subprocess.run(["sh", COMPILE, built, architecture], check=True)
    return built
