"""The benchmarks themselves: they can be collected, and rivals compute what the sweep computes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import gather_limit, gpu_sweep
from bench.gpu_rivals import GPU_RIVALS
from bench.planner_grid import GridProblem, compare
from bench.problems import Problem, skewed, skewed_on
from bench.report import check_agreement
from bench.rivals import RIVALS, Pass

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


def test_entries_drawn_on_a_device_are_distinct_and_skewed() -> None:
    problem = skewed_on("cpu", 300, 200, 9000, 16)
    assert torch.unique(problem.rows * 200 + problem.columns).numel() == 9000
    assert problem.rows.max() < 300
    assert problem.columns.max() < 200
    counts = problem.rows.bincount(minlength=300).sort(descending=True).values
    assert counts[0] > 4 * counts[-1]


@pytest.mark.filterwarnings("ignore:Sparse")
def test_rivals_on_a_gpu_compute_what_float64_gives() -> None:
    # The tiles need a GPU, torch.compile a minute.
    rivals = [name for name in GPU_RIVALS if "tiles" not in name and "torch.compile" not in name]
    result = gpu_sweep.compare(skewed_on("cpu", 60, 50, 400, 16), rivals, rounds=1)
    assert result["failures"] == {}
    assert set(result["milliseconds"]) == set(rivals)
    assert max(result["errors"]["dmf_fast"].values()) < 1e-5


def test_a_pass_that_is_wrong_or_raises_costs_its_own_numbers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(problem: Problem) -> Pass:
        right = GPU_RIVALS["dmf_fast"](problem)
        return lambda: (1.001 * right()[0], *right()[1:])

    def unavailable(problem: Problem) -> Pass:
        raise RuntimeError("not here")

    monkeypatch.setitem(GPU_RIVALS, "wrong", wrong)
    monkeypatch.setitem(GPU_RIVALS, "unavailable", unavailable)
    problem = skewed_on("cpu", 60, 50, 400, 16)
    result = gpu_sweep.compare(problem, ("wrong", "dmf_fast", "unavailable"), rounds=1)
    assert set(result["milliseconds"]) == {"dmf_fast"}
    assert "far from float64" in result["failures"]["wrong"]
    assert result["failures"]["unavailable"] == "RuntimeError: not here"


def test_gathered_indices_are_sorted_by_block_line_and_index() -> None:
    problem = skewed_on("cpu", 60, 50, 400, 16)
    whole = gather_limit.indices_in_order(problem.rows, problem.columns, 50, 50)
    assert torch.equal(whole, problem.columns[torch.argsort(problem.rows * 50 + problem.columns)].int())
    blocked = gather_limit.indices_in_order(problem.rows, problem.columns, 50, 20)
    assert torch.equal(blocked // 20, (blocked // 20).sort().values)
    assert torch.equal(blocked.sort().values, whole.sort().values)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not on the path")
def test_the_gather_only_kernel_compiles(tmp_path: Path) -> None:
    assert gather_limit.compiled(tmp_path, "sm_90").is_file()
