"""The fused sweep and its rivals as pytest-benchmark cases: `python -m pytest bench --benchmark-enable`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bench.cases import CASES, GPU_CASES, Case
from bench.gpu_rivals import GPU_RIVALS
from bench.problems import Problem
from bench.rivals import RIVALS, Pass

CASES_AND_RIVALS = [
    pytest.param(case, rival, id=f"{case.device}-{case.name}-{rival}")
    for case in (*CASES, *GPU_CASES)
    for rival in case.rivals
]


@pytest.fixture(scope="module")
def problems() -> dict[Case, Problem | None]:
    """Keep the problem that was drawn last: the largest take a gigabyte."""
    return {}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize(("case", "rival"), CASES_AND_RIVALS)
def test_loss_and_both_gradients(
    benchmark: Callable[..., object], problems: dict[Case, Problem | None], case: Case, rival: str
) -> None:
    if case.device == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device here")
    if case not in problems:
        problems.clear()
        problems[case] = case.problem()
    problem = problems[case]
    if problem is None:
        pytest.skip("MovieLens 100K is not here: set DMF_FAST_DATA to the folder that holds ml-100k/")
    benchmark.group = f"{case.name}, {case.device}"
    rivals = GPU_RIVALS if case.device == "cuda" else RIVALS
    benchmark(finished(rivals[rival](problem), case.device))


def finished(one_pass: Pass, device: str) -> Callable[[], object]:
    """Return the pass with a wait for its end, as pytest-benchmark reads the CPU's clock."""
    if device == "cpu":
        return one_pass

    def pass_and_wait() -> None:
        one_pass()
        torch.cuda.synchronize()

    return pass_and_wait
