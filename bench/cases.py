"""The cases of the reports and of the pytest-benchmark tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench.gpu_rivals import GPU_RIVALS
from bench.problems import MILLION, NETFLIX, TEN_MILLION, Problem, movielens, skewed, skewed_on
from bench.rivals import RIVALS


@dataclass(frozen=True)
class Case:
    """A problem, who competes on it, how often and where."""

    name: str
    problem: Callable[[], Problem | None]
    rivals: tuple[str, ...]
    rounds: int
    device: str = "cpu"


ALL = tuple(RIVALS)
SPARSE = ("dmf_fast", "sampled_addmm + CSR", "Numba CSR + CSC")
CASES = (
    Case("MovieLens 100K, h 64", lambda: movielens(64), ALL, 21),
    Case("943×1682, 100k, h 64", lambda: skewed(943, 1682, 100_000, 64), ALL, 21),
    Case("6040×3706, 1M, h 16", lambda: skewed(*MILLION, 16), ALL, 7),
    Case("6040×3706, 1M, h 64", lambda: skewed(*MILLION, 64), ALL, 9),
    Case("6040×3706, 1M, h 128", lambda: skewed(*MILLION, 128), ALL, 5),
    Case("69878×10677, 10M, h 64", lambda: skewed(*TEN_MILLION, 64), SPARSE, 5),
)

# Only `python -m bench.gpu_sweep --compile` times it, as it takes long to compile.
COMPILED = "gather, torch.compile"
GPU_ALL = tuple(name for name in GPU_RIVALS if name != COMPILED)
GPU_SPARSE = ("dmf_fast", "sampled_addmm + CSR", "gather + autograd", "index_select + autograd")


def _on_gpu(name: str, sizes: tuple[int, int, int], h: int, rivals: tuple[str, ...], rounds: int) -> Case:
    return Case(f"{name}, h {h}", partial(skewed_on, "cuda", *sizes, h), rivals, rounds, "cuda")


GPU_CASES = (
    _on_gpu("6040×3706, 1M", MILLION, 64, GPU_ALL, 9),
    _on_gpu("69878×10677, 10M", TEN_MILLION, 64, GPU_SPARSE, 5),
    _on_gpu("6040×3706, 1M", MILLION, 16, GPU_ALL, 5),
    _on_gpu("6040×3706, 1M", MILLION, 128, GPU_ALL, 5),
    _on_gpu("943×1682, 100k", (943, 1682, 100_000), 64, GPU_ALL, 9),
)
NETFLIX_CASE = _on_gpu("480189×17770, 100M", NETFLIX, 64, GPU_SPARSE[:2], 3)
