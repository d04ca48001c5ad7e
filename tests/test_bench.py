"""The benchmarks themselves: they can be collected, and rivals compute what the sweep computes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import gather_limit, gpu_grid, gpu_outcomes, gpu_report, gpu_small, gpu_step, sanitizer_log
from bench.cases import GPU_CASES, NETFLIX_CASE
from bench.gpu_limits import short_name
from bench.gpu_rivals import GPU_RIVALS
from bench.gpu_targets import DENSE, EXACT_TILES, GATHERS, MILLION, NETFLIX, TEN_MILLION, TILES, outcomes
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
    result = gpu_report.compare(skewed_on("cpu", 60, 50, 400, 16), rivals, rounds=1)
    assert result["failures"] == {}
    assert set(result["milliseconds"]) == set(rivals)
    assert max(result["errors"]["dmf_fast"].values()) < 1e-5


def test_a_pass_that_is_wrong_or_raises_costs_its_own_numbers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(problem: Problem) -> Pass:
        return lambda: (problem.a.sum() * torch.nan, problem.a, problem.b_transposed)

    def unavailable(problem: Problem) -> Pass:
        raise RuntimeError("not here")

    monkeypatch.setitem(GPU_RIVALS, "wrong", wrong)
    monkeypatch.setitem(GPU_RIVALS, "unavailable", unavailable)
    problem = skewed_on("cpu", 60, 50, 400, 16)
    result = gpu_report.compare(problem, ("wrong", "dmf_fast", "unavailable"), rounds=1)
    assert set(result["milliseconds"]) == {"dmf_fast"}
    assert "far from float64" in result["failures"]["wrong"]
    assert result["failures"]["unavailable"] == "RuntimeError: not here"


def test_targets_name_cases_and_passes_that_are_measured() -> None:
    measured = {case.name: case.rivals for case in (*GPU_CASES, NETFLIX_CASE)}
    assert {"dmf_fast", TILES, EXACT_TILES, *GATHERS, *DENSE} <= set(measured[MILLION])
    assert {"dmf_fast", "sampled_addmm + CSR", *GATHERS} <= set(measured[TEN_MILLION])
    assert "dmf_fast" in measured[NETFLIX]


def test_targets_are_met_missed_or_not_measured() -> None:
    times = {"dmf_fast": 1.0, "sampled_addmm + CSR": 4.5, "gather + autograd": 30.0, TILES: 0.4}
    times |= {"index_select + autograd": 14.0, "dense + autograd": 2.0, "dense + autograd, TF32": 1.5}
    million = {
        "problem": MILLION,
        "milliseconds": times,
        "percent_of_gather_bound": 60.0,
        "errors": {TILES: {"loss": 1e-4, "dA": 3e-3, "dB": 1e-4}, EXACT_TILES: {"loss": 1e-6, "dA": 1e-6}},
    }
    netflix = {"problem": NETFLIX, "memory": {"peak_step_bytes_per_entry": 20.5}}
    report = {"cases": [million, netflix], "launch_bound": {"microseconds": {"dmf_fast, CUDA graph": 25.0}}}
    found = {target["target"]: (target["outcome"], target["measured"]) for target in outcomes(report)}
    assert found[f"{MILLION}: sparse path, % of the gather bound"] == ("met", 60.0)
    assert found[f"{MILLION}: sparse path, times sampled_addmm + CSR"] == ("met", 4.5)
    assert found[f"{MILLION}: sparse path, times the fastest gather autograd"] == ("missed", 14.0)
    assert found[f"{MILLION}: tiles with TF32, times the sparse path"] == ("met", 2.5)
    assert found[f"{MILLION}: tiles with TF32, times dense autograd"] == ("met", 3.75)
    assert found[f"{MILLION}: error of tiles with TF32"] == ("missed", 3e-3)
    assert found[f"{MILLION}: error of tiles with 3×TF32"] == ("met", 1e-6)
    assert found[f"{TEN_MILLION}: sparse path, % of the gather bound"] == ("not measured", None)
    assert found[f"{NETFLIX}: peak bytes an entry over factors and gradients"] == ("missed", 20.5)
    assert found["100×100, depth 3: microseconds a step as a CUDA graph"] == ("met", 25.0)
    assert {target["outcome"] for target in outcomes({"cases": []})} == {"not measured"}


def test_both_forms_of_the_smallest_training_step_train_alike() -> None:
    trainers = [gpu_step.Trainer(objective, "cpu") for objective in gpu_step.objectives("cpu").values()]
    for trainer in trainers:
        for _ in range(5):
            trainer.step()
    torch.testing.assert_close(trainers[0].factors, trainers[1].factors, rtol=1e-4, atol=1e-5)


def test_the_grid_of_the_paper_has_48_runs_which_all_make_their_steps() -> None:
    measured = gpu_grid.measure("cpu", steps=3)
    assert measured["runs"] == 48
    assert measured["seconds_of_a_million_steps"] == pytest.approx(measured["seconds"] * 1e6 / 3)


def test_the_sanitizer_meets_every_operator() -> None:
    schemas = (ROOT / "csrc" / "ops" / "schemas.cpp").read_text()
    inputs = gpu_small.Inputs(gpu_small.PATTERNS[2], torch.float32)
    called = {name.partition(",")[0] for name in gpu_small.calls(inputs, "cpu")}
    # A GPU adds the tiles, where they take the inputs, and operators that build layouts and make whole runs;
    # it has no `top_columns`.
    assert inputs.suit_tiles()
    assert set(re.findall(r'"(\w+)\(', schemas)) <= called | {
        "tile_loss_gradients",
        "build_layout",
        "descend_blocks",
        "block_shared_memory",
        "top_columns",
    }
    gpu_small.check_run("cpu")
    assert gpu_small.check(gpu_small.PATTERNS[4], torch.bfloat16, "cpu") == len(called) + 1


def test_only_reports_in_our_kernels_count() -> None:
    theirs = "========= Uninitialized __global__ memory read of size 4 bytes\n=========     at void at::k()\n"
    ours = theirs.replace("at::k", "dmf::cuda::line_pass<float>")
    log = "========= COMPUTE-SANITIZER\n{}=========\n{}=========\n========= ERROR SUMMARY: 2 errors\n"
    clean = sanitizer_log.read(log.format(theirs, theirs) + "exit status 0\n")
    assert clean == {"outcome": "clean", "reports": 2, "reports_in_our_kernels": 0, "exit_status": 0}
    found = sanitizer_log.read(log.format(theirs, ours) + "exit status 0\n")
    assert (found["outcome"], found["reports_in_our_kernels"]) == ("failed", 1)
    hazards = "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\nexit status {}\n"
    assert sanitizer_log.read(hazards.format(0))["outcome"] == "clean"
    assert sanitizer_log.read(hazards.format(99))["outcome"] == "failed"
    assert sanitizer_log.read("stopped after 80 seconds\nexit status 124\n")["outcome"] == "did not finish"


def test_outcomes_of_parts_are_collected(tmp_path: Path) -> None:
    (tmp_path / "parts").write_text("build passed 60\ntests failed 7\n")
    (tmp_path / "tests.xml").write_text(
        '<testsuites><testsuite><testcase classname="tests.a" name="b"/>'
        '<testcase classname="tests.a" name="c"><failure/></testcase>'
        '<testcase name="d"><skipped/></testcase></testsuite></testsuites>'
    )
    (tmp_path / "report.json").write_text('{"cases": []}')
    report = gpu_outcomes.collect(tmp_path)
    assert report["parts"]["tests"] == {"outcome": "failed", "seconds": 7}
    counts = {"passed": 1, "failed": 1, "errors": 0, "skipped": 1, "names_of_failed": ["tests.a.c"]}
    assert report["tests"] == counts
    assert report["cases"] == []
    assert "sanitizer" not in report


def test_the_model_of_a_gpu_names_its_results() -> None:
    names = ("NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB", "NVIDIA GeForce RTX 4090")
    assert [short_name(name) for name in names] == ["h100", "a100", "4090"]


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


def run_gpu_check(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", ROOT / "bench" / "gpu_check.sh", *arguments], capture_output=True, text=True)


def test_the_gpu_check_is_a_shell_script_that_names_its_parts(tmp_path: Path) -> None:
    subprocess.run(["sh", "-n", ROOT / "bench" / "gpu_check.sh"], check=True)
    done = run_gpu_check(str(tmp_path), "polish")
    assert done.returncode == 2
    assert "no part 'polish'; choose of build, tests, sanitizer, bench and profile" in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_the_gpu_check_says_where_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    done = run_gpu_check(str(tmp_path / "results"))
    assert done.returncode == 1
    assert "sees no CUDA device on this machine" in done.stderr
    assert list((tmp_path / "results").iterdir()) == []
