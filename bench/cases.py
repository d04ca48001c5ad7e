"""The cases of the report and of the pytest-benchmark tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.problems import Problem, movielens, skewed
from bench.rivals import RIVALS


@dataclass(frozen=True)
class Case:
    """A problem, who competes on it, and how often."""

    name: str
    problem: Callable[[], Problem | None]
    rivals: tuple[str, ...]
    rounds: int


ALL = tuple(RIVALS)
SPARSE = ("dmf_fast", "sampled_addmm + CSR", "Numba CSR + CSC")
CASES = (
    Case("MovieLens 100K, h 64", lambda: movielens(64), ALL, 21),
    Case("943×1682, 100k, h 64", lambda: skewed(943, 1682, 100_000, 64), ALL, 21),
    Case("6040×3706, 1M, h 16", lambda: skewed(6040, 3706, 1_000_000, 16), ALL, 7),
    Case("6040×3706, 1M, h 64", lambda: skewed(6040, 3706, 1_000_000, 64), ALL, 9),
    Case("6040×3706, 1M, h 128", lambda: skewed(6040, 3706, 1_000_000, 128), ALL, 5),
    Case("69878×10677, 10M, h 64", lambda: skewed(69878, 10677, 10_000_000, 64), SPARSE, 5),
)
