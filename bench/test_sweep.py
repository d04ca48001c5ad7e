"""The fused sweep and its rivals as pytest-benchmark cases: `python -m pytest bench --benchmark-enable`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.problems import Problem, movielens, skewed
from bench.rivals import RIVALS

PROBLEMS: dict[str, Callable[[], Problem | None]] = {
    "MovieLens 100K": lambda: movielens(64),
    "943×1682, 100k": lambda: skewed(943, 1682, 100_000, 64),
    "6040×3706, 1M": lambda: skewed(6040, 3706, 1_000_000, 64),
}


@pytest.fixture(scope="module", params=PROBLEMS)
def problem(request: pytest.FixtureRequest) -> Problem:
    drawn = PROBLEMS[request.param]()
    if drawn is None:
        pytest.skip("MovieLens 100K is not here: set DMF_FAST_DATA to the folder that holds ml-100k/")
    return drawn


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("rival", RIVALS)
def test_loss_and_both_gradients(benchmark: Callable[..., object], problem: Problem, rival: str) -> None:
    benchmark.group = problem.name
    benchmark(RIVALS[rival](problem))
