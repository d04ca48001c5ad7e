"""The fused sweep and its rivals as pytest-benchmark cases: `python -m pytest bench --benchmark-enable`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.cases import CASES, Case
from bench.problems import Problem
from bench.rivals import RIVALS

CASES_AND_RIVALS = [
    pytest.param(case, rival, id=f"{case.name}-{rival}") for case in CASES for rival in case.rivals
]


@pytest.fixture(scope="module")
def problems() -> dict[str, Problem | None]:
    """Keep the problem that was drawn last: the largest take a gigabyte."""
    return {}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize(("case", "rival"), CASES_AND_RIVALS)
def test_loss_and_both_gradients(
    benchmark: Callable[..., object], problems: dict[str, Problem | None], case: Case, rival: str
) -> None:
    if case.name not in problems:
        problems.clear()
        problems[case.name] = case.problem()
    problem = problems[case.name]
    if problem is None:
        pytest.skip("MovieLens 100K is not here: set DMF_FAST_DATA to the folder that holds ml-100k/")
    benchmark.group = case.name
    benchmark(RIVALS[rival](problem))
