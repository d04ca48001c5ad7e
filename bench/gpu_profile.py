"""`python -m bench.gpu_profile`: one pass over 1M entries, sparse and with tiles, and steps of a block run.

For a profiler: kernels count between its start and its stop, `ncu --profile-from-start off`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench.gpu_rivals import GPU_RIVALS
from bench.gpu_steps import trials
from bench.problems import MILLION, skewed_on
from dmf_fast.training import fit_many

PASSES = ("dmf_fast", "dmf_fast tiles, TF32")
WARM_UP = 2
STEPS = 50


@contextmanager
def profiled() -> Iterator[None]:
    """Have the profiler see the kernels of a block."""
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
    yield
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()


def make_passes() -> None:
    problem = skewed_on("cuda", *MILLION, h=64)
    for name in PASSES:
        one_pass = GPU_RIVALS[name](problem)
        for _ in range(WARM_UP):
            one_pass()
        with profiled():
            one_pass()


def make_steps() -> None:
    given = trials("cuda", [(3, 1e-3, 1e-3, 2000)], STEPS)
    with profiled():
        fit_many(given)


if __name__ == "__main__":
    make_passes()
    make_steps()
