"""The first run on a GPU, rehearsed: all parts on the CPU, what hangs, what is wrong, what is reported."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Callable
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import gpu_checks, gpu_operators, gpu_outcomes, gpu_process, gpu_steps, gpu_tests
from bench.cases import GPU_CASES, NETFLIX_CASE
from bench.gpu_first import FIRST, GROUPS, PARTS, SECOND, run_parts, short_name
from bench.gpu_operators import PATTERNS, Inputs
from bench.gpu_session import Command, Part, Session
from bench.gpu_targets import DENSE, EXACT_TILES, GATHERS, MILLION, NETFLIX, TEN_MILLION, TILES, outcomes

ROOT = Path(__file__).resolve().parent.parent


def test_every_part_is_rehearsed_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    options = ["--device", "cpu", "--output", str(tmp_path), "first", "second"]
    done = subprocess.run(["sh", ROOT / "bench" / "gpu_first.sh", *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    text, report = tmp_path.glob("*-cpu-first-second.txt"), tmp_path.glob("*-cpu-first-second.json")
    assert next(text).read_text() == done.stdout
    found = json.loads(next(report).read_text())
    ended = {name: part["outcome"] for name, part in found["parts"].items()}
    for tool in ("profile", "memcheck", "racecheck"):
        assert ended.pop(tool) == "skipped: needs a GPU"
    assert ended == dict.fromkeys(ended, "passed")
    assert found["operators"]["wrong"] == []
    assert set(found["operators"]["largest_errors"]) == set(gpu_checks.DTYPES)
    steps = ["limits", *(f"microseconds_of_one_block_at_depth_{depth}" for depth in (2, 3, 4))]
    assert list(found["steps"]) == [*steps, "microseconds_launched"]
    swept = [part for part in found if part.startswith("sweep")]
    assert sorted(swept) == ["sweep", "sweep of stand-in"]
    assert [len(found[part]["cases"]) for part in sorted(swept)] == [2, 1]
    assert all(case["percent_of_gather_bound"] > 0 for case in found["sweep"]["cases"])
    assert found["tests"]["failed"] == 0
    assert found["tests"]["passed"] + found["tests"]["skipped"] > 10
    assert "operators  passed in" in done.stdout
    assert "sweep of stand-in, 60×50, in place of 6040×3706, 1M, h 64: dmf_fast 0." in done.stdout
    assert "no test failed" in done.stdout
    assert {"grid", "netflix", "targets", "date", "commit"} <= set(found)


def test_a_part_that_hangs_or_fails_stops_none_of_the_others(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('deaf', flush=True); "
    child = f"subprocess.Popen([sys.executable, '-c', {deaf + 'time.sleep(600)'!r}])"
    hanging = f"import subprocess, sys, time; {child}; time.sleep(600)"
    parts = {
        "hangs": Part(5, lambda _: [Command([sys.executable, "-c", hanging]), Command(["echo", "too late"])]),
        "raises": Part(60, lambda _: [Command(["no such program"])]),
        "corrupts": Part(60, lambda _: [Command(["sh", "-c", corrupt])]),
        "fails": Part(60, lambda _: [Command(["sh", "-c", "exit 3"]), Command(["echo", "continues"])]),
        "lacks": Part(60, lambda _: [], needs="ncu"),
        "ends": Part(60, lambda _: [Command(["echo", "done"], copy="said.csv")]),
    }
    corrupt = """printf '{"test": "a", "outcome": "passed", "seconds": 1}\n{"test": "b",' > ../half.outcomes
        printf '"no header"\n' > ../profile.csv; printf '{"runs": 4' > ../grid.json"""
    start = time.monotonic()
    with (tmp_path / "text").open("w") as text:
        assert not run_parts(parts, Session("cpu", tmp_path, text, tmp_path), tmp_path / "report.json")
    assert time.monotonic() - start < 300  # the one that hangs would sleep for 600
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["half"]["passed"], report["half"]["failed"]) == (1, 0)
    assert report["profile"]["text"] == '"no header"\n'
    assert report["grid"]["text"] == '{"runs": 4'
    assert {name: part["outcome"] for name, part in report["parts"].items()} == {
        "hangs": "stopped",
        "raises": "failed",
        "corrupts": "passed",
        "fails": "failed",
        "lacks": "skipped: needs a GPU",
        "ends": "passed",
    }
    said = (tmp_path / "text").read_text()
    assert said.startswith("==== hangs\ndeaf\n")
    assert "\nstopped after 5 seconds\n==== hangs stopped" in said
    assert "too late" not in said
    assert "FileNotFoundError" in said
    assert "continues" in said
    assert (tmp_path / "said.csv").read_text() == "done\n"


def test_every_library_that_was_built_beforehand_has_a_package_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = tmp_path / "built"
    for name in ("product/dmf_fast/libdmf_fast_cuda.so", "product/dmf_fast/_native.so", "product/x.egg-info"):
        (built / name).parent.mkdir(parents=True, exist_ok=True)
        (built / name).write_text("product")
    (built / "threads-32" / "dmf_fast").mkdir(parents=True)
    (built / "threads-32" / "dmf_fast" / "libdmf_fast_cuda.so").write_text("variant")
    monkeypatch.setattr(Session, "run", lambda *_: "passed")
    (tmp_path / "work").mkdir()
    with (tmp_path / "text").open("w") as text:
        session = Session("cuda", tmp_path / "work", text, built)
        session.prepare()
    assert session.variants == ["threads-32"]
    for name, cuda in (("product", "product"), ("threads-32", "variant")):
        package = tmp_path / "work" / name
        assert (package / "dmf_fast" / "libdmf_fast_cuda.so").read_text() == cuda
        assert {file.name for file in (package / "dmf_fast").glob("*.so")} == {
            "libdmf_fast_cuda.so",
            "_native.so",
        }
        assert (package / "dmf_fast" / "__init__.py").samefile(ROOT / "dmf_fast" / "__init__.py")
        assert (package / "bench").samefile(ROOT / "bench")
        assert (package / "x.egg-info").is_file()


def test_either_group_of_parts_takes_at_most_five_minutes() -> None:
    assert sum(part.seconds for part in FIRST.values()) <= 300
    assert sum(part.seconds for part in SECOND.values()) <= 300
    assert [name for names in GROUPS.values() for name in names] == list(PARTS)


def test_what_follows_a_lost_process_is_checked_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("""#!/bin/sh
case "$*" in
  *"--first 0 "*)
    echo '{"begins": "a of 1"}' && echo '{"case": "a of 1", "error": 0.5, "problem": "off"}'
    echo '{"begins": "b of 1"}' && kill -9 $$ ;;
  *"--first 3 "*) echo '{"begins": "a of 2"}' && kill -ALRM $$ ;;
  *"--first 2 "*)
    echo '{"begins": "b of 2"}' && echo '{"case": "b of 2", "error": 0.25, "problem": "CUDA error"}'
    exit 3 ;;
  *) mkdir "${0%/*}/once" && exit 1
    echo 'a line of torch' && echo '{"case": "c of 1", "error": 0.125, "problem": null}' ;;
esac
""")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    cases = gpu_checks.check_elsewhere("float32", "cpu", "", time.monotonic() + 60)
    found = gpu_checks.summary(cases)
    assert [(case["case"], case["problem"]) for case in found["wrong"]] == [
        ("a of 1", "off"),
        ("b of 1", "its process ended with SIGKILL"),
        ("b of 2", "CUDA error"),
        ("a of 2", "took longer than 8 seconds"),
        ("start", "its process ended with status 1"),
    ]
    assert (found["cases"], found["largest_errors"]) == (6, {"float32": {"c": 0.125}})
    assert list(gpu_outcomes.mismatches(found["wrong"])) == [
        "WRONG float32  2 times: a of 1: off",
        "WRONG float32  2 times: b of 1: its process ended with SIGKILL",
        "WRONG float32  1 times: start: its process ended with status 1",
    ]


def test_what_cannot_be_killed_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_process, "TO_DIE", 0.2)
    said: list[str] = []
    start = time.monotonic()
    escaping = ["sh", "-c", "setsid sleep 60 & sleep 600"]  # to where no signal to the group comes
    status = gpu_process.run(escaping, 0.5, said.append, grace=0.2, start_new_session=True)
    assert time.monotonic() - start < 50
    assert status is None
    assert said == ["a process cannot be killed and is left behind"]


def test_a_lost_context_ends_the_process_whoever_reports_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raising(*_: object) -> None:
        raise RuntimeError("dmf_fast: starting a kernel failed: an illegal memory access was encountered")

    monkeypatch.setattr(gpu_operators, "calls", raising)
    for lost in (True, False):
        monkeypatch.setattr(torch.cuda, "synchronize", raising if lost else lambda: None)
        with pytest.raises(SystemExit) if lost else nullcontext():
            gpu_checks.check_here("float32", "cuda", "completion_loss_forward .* h (17|64)", 0, 0)
        assert capsys.readouterr().out.count("illegal memory access") == (1 if lost else 2)
    torch.use_deterministic_algorithms(False)


def test_every_wrong_result_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = gpu_operators.calls

    def partly_wrong(inputs: Inputs, device: str) -> dict[str, Callable[[], Any]]:
        made: dict[str, Callable[[], Any]] = {**right(inputs, device)}
        calls = count()
        loss, products = made["completion_loss_forward"], made["observed_product_forward"]
        made["completion_loss_forward"] = lambda: 1.01 * loss()
        made["observed_product_forward"] = lambda: products() * (1 + 1e-14 * next(calls))
        del made["caller_order"]
        return made

    monkeypatch.setattr(gpu_operators, "calls", partly_wrong)
    gpu_checks.check_here("float64", "cpu", "of 150×130, 6000 entries, h 64", 0, 0)
    torch.use_deterministic_algorithms(False)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ended = {line["case"].split(" of ")[0]: line["problem"] for line in lines if "case" in line}
    assert len(ended) == len(right(Inputs(PATTERNS[0], torch.float64), "cpu"))
    assert {name: problem for name, problem in ended.items() if problem is not None} == {
        "completion_loss_forward": "off by 1.0e-02, 1e-12 is allowed",
        "observed_product_forward": "differs from call to call",
        "caller_order": "KeyError: 'caller_order'",
    }


def test_the_checks_meet_every_operator() -> None:
    schemas = (ROOT / "csrc" / "ops" / "schemas.cpp").read_text()
    inputs = Inputs(PATTERNS[0], torch.float32)
    assert inputs.tile_precisions == ("tf32", "tf32x3")
    called = {name.partition(",")[0] for name in gpu_operators.exact(inputs)} | {"build_layout"}
    of_runs, of_the_cpu = {"descend_blocks", "block_shared_memory"}, {"top_columns"}
    assert set(re.findall(r'"(\w+)\(', schemas)) == called | of_runs | of_the_cpu


@pytest.mark.parametrize("numbers", [2, 4, 8])
def test_rows_of_every_reader_of_the_sweep_are_checked(numbers: int) -> None:
    """A reader holds 4 (in float32 alone) to 128 packs of 16 bytes; wider rows are read in turns."""
    packs = {-(-pattern.h // numbers) for pattern in PATTERNS if pattern.nnz > 1}
    readers = [4, 8, 16, 32, 64, 128] if numbers == 4 else [8, 16, 32, 64]
    assert {bisect_left(readers, count) for count in packs} == set(range(len(readers) + 1))


def test_every_file_with_tests_for_a_gpu_is_among_those_that_run_there() -> None:
    marked_or_by_fixture = re.compile(
        r"@on_gpu\b|def test_[^:]*\b(backend|kernels|device): str|usefixtures\(.*\"device\"\)"
    )
    by_engine = re.compile(r"def test_\w+\(\s*(\w+: \w+, )*engine: str")

    def runs_there(text: str) -> bool:
        of_engines = by_engine.search(text) is not None and 'parametrize("engine"' not in text
        return of_engines or marked_or_by_fixture.search(text) is not None

    files = (file for file in (ROOT / "tests").rglob("test_*.py") if file != Path(__file__).resolve())
    found = {str(file.relative_to(ROOT)) for file in files if runs_there(file.read_text())}
    assert found == set(gpu_tests.FILES)


def test_outcomes_of_tests_are_written_one_by_one_and_a_test_that_hangs_ends(tmp_path: Path) -> None:
    tests = tmp_path / "test_some.py"
    tests.write_text(
        "import time\nimport pytest\npytestmark = pytest.mark.cuda\n"
        "def test_right(): pass\ndef test_wrong(): assert 1 == 2\ndef test_hangs(): time.sleep(600)\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  cuda\n  slow\n")
    script = "from bench import gpu_tests; gpu_tests.SECONDS_A_TEST = 4; gpu_tests.main()"
    command = [sys.executable, "-c", script, "--outcomes", str(tmp_path / "tests.outcomes"), str(tests)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    collected = gpu_outcomes.collect(tmp_path)
    assert "test_hangs" in collected["hung tests"]
    found = collected["tests"]
    assert (found["passed"], found["failed"]) == (1, 1)
    ((name, message),) = found["names_of_failed"].items()
    assert name.endswith("test_wrong")
    assert "assert 1 == 2" in message
    report = tmp_path / "a-first.json"
    report.write_text(json.dumps({"tests": found}))
    assert gpu_tests.failed_of(report) == [name]


def test_what_a_profiler_and_a_sanitizer_say_is_read(tmp_path: Path) -> None:
    (tmp_path / "profile.csv").write_text(
        '==PROF== Connected\n"said", "by torch"\n'
        '"ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"\n'
        '"0","line_pass","GPU Speed Of Light Throughput","Duration","us","81.2"\n'
        '"0","line_pass","Launch Statistics","Registers Per Thread","register/thread","94"\n'
        "==PROF== Disconnected\n"
    )
    (tmp_path / "memcheck.sanitizer").write_text("========= ERROR SUMMARY: 2 errors\n")
    (tmp_path / "racecheck.sanitizer").write_text("========= RACECHECK SUMMARY: 0 hazards displayed\n")
    found = gpu_outcomes.collect(tmp_path)
    assert found["profile"] == {
        "0 line_pass": {"Duration": "81.2 us", "Registers Per Thread": "94 register/thread"}
    }
    assert found["memcheck"] == ["2 errors"]
    assert found["racecheck"] == ["0 hazards displayed"]


def test_the_grid_of_the_paper_has_48_runs_which_all_make_their_steps() -> None:
    assert gpu_steps.in_blocks("cpu", gpu_steps.GRID, few=1, many=3, rounds=1)["runs"] == 48


def test_the_model_of_a_gpu_names_its_results() -> None:
    names = ("NVIDIA H200", "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB", "NVIDIA GeForce RTX 4090", "")
    assert [short_name(name) for name in names] == ["h200", "h100", "a100", "4090", "gpu"]


def test_targets_name_cases_and_passes_that_are_measured() -> None:
    measured = {case.name: case.rivals for case in (*GPU_CASES, NETFLIX_CASE)}
    assert {"dmf_fast", TILES, EXACT_TILES, *GATHERS, *DENSE} <= set(measured[MILLION])
    assert {"dmf_fast", "sampled_addmm + CSR", *GATHERS} <= set(measured[TEN_MILLION])
    assert "dmf_fast" in measured[NETFLIX]


def test_targets_are_met_missed_or_not_measured() -> None:
    times = {"dmf_fast": 1.0, "sampled_addmm + CSR": 2.5, "gather + autograd": 30.0, TILES: 0.4}
    times |= {"index_select + autograd": 3.5, "dense + autograd": 2.0, "dense + autograd, TF32": 1.5}
    million = {
        "problem": MILLION,
        "milliseconds": times,
        "percent_of_gather_bound": 60.0,
        "errors": {TILES: {"loss": 1e-4, "dA": 3e-3, "dB": 1e-4}, EXACT_TILES: {"loss": 1e-6, "dA": 1e-6}},
    }
    netflix = {"problem": NETFLIX, "memory": {"peak_step_bytes_per_entry": 20.5}}
    report = {
        "sweep": {"cases": [million]},
        "netflix": {"cases": [netflix]},
        "steps": {
            "limits": {"compute_capability": "9.0"},
            "microseconds_launched": {"CUDA graph": 25.0},
            "microseconds_of_one_block_at_depth_2": 18.0,
        },
    }
    found = {target["target"]: (target["outcome"], target["measured"]) for target in outcomes(report)}
    assert found[f"{MILLION}: sparse path, % of the gather bound"] == ("met", 60.0)
    assert found[f"{MILLION}: sparse path, times sampled_addmm + CSR"] == ("met", 2.5)
    assert found[f"{MILLION}: sparse path, times the fastest gather autograd"] == ("missed", 3.5)
    assert found[f"{MILLION}: tiles with TF32, times the sparse path"] == ("met", 2.5)
    assert found[f"{MILLION}: tiles with TF32, times dense autograd"] == ("met", 3.75)
    assert found[f"{MILLION}: error of tiles with TF32"] == ("missed", 3e-3)
    assert found[f"{MILLION}: error of tiles with 3×TF32"] == ("met", 1e-6)
    assert found[f"{TEN_MILLION}: sparse path, % of the gather bound"] == ("not measured", None)
    assert found[f"{NETFLIX}: peak bytes an entry over factors and gradients"] == ("missed", 20.5)
    assert found["100×100, depth 3: microseconds a step as a CUDA graph"] == ("met", 25.0)
    assert found["100×100, depth 2: microseconds a step in one block"] == ("missed", 18.0)
    elsewhere = outcomes(report | {"steps": {"limits": {"compute_capability": "8.0"}}})
    assert {target["outcome"] for target in elsewhere if "microseconds" in str(target["target"])} == {
        "not measured"
    }
    grid = {"limits": {"compute_capability": "9.0"}, "seconds_of_a_million_steps": 61.0}
    alone = {target["target"]: target["outcome"] for target in outcomes({"grid": grid})}
    assert alone.pop("the paper's grid: seconds for 48 runs of a million steps") == "missed"
    assert set(alone.values()) == {"not measured"}
