"""The benchmarks themselves: they can be collected, and rivals compute what the sweep computes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.planner_grid import GridProblem, compare
from bench.problems import skewed
from bench.report import check_agreement
from bench.rivals import RIVALS

ROOT = Path(__file__).resolve().parent.parent


def test_every_case_meets_every_rival_as_a_pytest_benchmark() -> None:
    command = [sys.executable, "-m", "pytest", "bench", "--collect-only", "-q"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for rival in RIVALS:
        assert f"1M, h 64-{rival}]" in listed


@pytest.mark.filterwarnings("ignore:Sparse")
def test_rivals_compute_the_loss_and_gradients_of_the_sweep() -> None:
    problem = skewed(60, 50, 400, 16)
    # torch.compile takes a minute to compile the gather form, and Numba a second.
    check_agreement({name: rival(problem) for name, rival in RIVALS.items() if "torch.compile" not in name})


def test_the_planner_grid_times_every_split_and_order() -> None:
    result = compare(GridProblem((30, 8, 9, 40), 0.5), rounds=1)
    assert result["plans"] == 2 + 1 + 1  # dense in two orders, split at 1, split at 2
    assert result["excess_percent"] >= 0
