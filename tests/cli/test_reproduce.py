"""``dmf-fast reproduce`` as a user runs it, with small experiments in place of the real ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import Result

from dmf_fast.experiments import reproduce as experiments
from dmf_fast.experiments.page.section import Claim, Section
from dmf_fast.experiments.reproduction import Reproduction

Run = Callable[..., Result]
SECTION = Section(
    "Figure one",
    "What is shown.",
    {},
    [
        Claim("Depth [helps].", "Arora et al.", "rule", "reproduced", "evidence"),
        Claim("Scale matters.", "Arora et al.", "rule", "not reproduced", "evidence"),
    ],
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Reproduction]:
    """What the experiments ``figure1`` and ``norms`` were called with; the working folder is a new one."""
    seen: list[Reproduction] = []
    for name in ("figure1", "norms"):
        fake = ModuleType(f"fake_{name}")

        def run(reproduction: Reproduction, title: str = f"The {name}") -> Section:
            seen.append(reproduction)
            return replace(SECTION, title=title)

        fake.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, fake.__name__, fake)
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"figure1": "fake_figure1", "norms": "fake_norms"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DMF_FAST_DATA", raising=False)
    return seen


@pytest.fixture
def movielens(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "ml-100k"
    folder.mkdir(parents=True)
    for name in ("u.data", "u1.base", "u1.test"):
        (folder / name).touch()
    return folder


def test_without_arguments_all_run_and_a_person_sees_claims_verdicts_and_the_page(
    calls: list[Reproduction], dmf_fast: Run, tmp_path: Path
) -> None:
    result = dmf_fast("reproduce")
    assert result.exit_code == 0, result.stderr
    assert calls == [Reproduction(Path("runs/paper/runs"), progress=None)] * 2
    for text in ("The figure1", "The norms", "Depth [helps].", "Scale matters.", "not reproduced"):
        assert text in result.stdout
    assert "The page is runs/paper/report.html" in result.stdout
    assert "Scale matters." in (tmp_path / "runs" / "paper" / "report.html").read_text()


def test_a_quick_run_has_its_own_folder(calls: list[Reproduction], dmf_fast: Run, tmp_path: Path) -> None:
    assert dmf_fast("reproduce", "all", "--quick", "--quiet").exit_code == 0
    assert calls[0] == Reproduction(Path("runs/paper-quick/runs"), quick=True, progress=False)
    assert (tmp_path / "runs" / "paper-quick" / "report.html").is_file()


def test_the_paper_s_size_has_a_folder_of_its_own(
    calls: list[Reproduction], dmf_fast: Run, tmp_path: Path
) -> None:
    assert dmf_fast("reproduce", "norms", "--paper-size", "--quiet").exit_code == 0
    assert calls == [Reproduction(Path("runs/paper-size/runs"), paper_size=True, progress=False)]
    assert (tmp_path / "runs" / "paper-size" / "report.html").is_file()


def test_quick_and_the_paper_s_size_are_mutually_exclusive(calls: list[Reproduction], dmf_fast: Run) -> None:
    result = dmf_fast("reproduce", "norms", "--paper-size", "--quick")
    assert result.exit_code == 2
    assert result.stderr == "Error: --quick and --paper-size are mutually exclusive: give one of them\n"
    assert not calls
    with pytest.raises(ValueError, match="`quick` and `paper_size` are mutually exclusive"):
        Reproduction(Path(), quick=True, paper_size=True)


def test_a_reproduction_knows_its_extent() -> None:
    assert Reproduction(Path()).extent == "full"
    assert Reproduction(Path(), quick=True).extent == "quick"
    assert Reproduction(Path(), paper_size=True).extent == "paper-size"


def test_one_target_into_a_folder_as_json(calls: list[Reproduction], dmf_fast: Run, tmp_path: Path) -> None:
    result = dmf_fast("reproduce", "norms", "--out", tmp_path / "here", "--json")
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert list(printed["sections"]) == ["norms"]
    assert [claim["verdict"] for claim in printed["sections"]["norms"]["claims"]] == [
        "reproduced", "not reproduced",
    ]  # fmt: skip
    assert printed == json.loads((tmp_path / "here" / "results.json").read_text())
    assert calls[0].folder == tmp_path / "here" / "runs"


def test_movielens_is_the_option_else_that_of_the_environment_else_not_there(
    calls: list[Reproduction], dmf_fast: Run, movielens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dmf_fast("reproduce", "norms")
    monkeypatch.setenv("DMF_FAST_DATA", str(movielens.parent))
    dmf_fast("reproduce", "norms")
    monkeypatch.setenv("DMF_FAST_DATA", "elsewhere")
    dmf_fast("reproduce", "norms")
    dmf_fast("reproduce", "norms", "--movielens", movielens)
    assert [call.movielens for call in calls] == [None, movielens, None, movielens]


def test_threads_are_set(calls: list[Reproduction], dmf_fast: Run, threads: int) -> None:
    assert dmf_fast("reproduce", "norms", "--threads", threads + 1).exit_code == 0
    assert torch.get_num_threads() == threads + 1


def test_a_target_that_does_not_exist_is_refused(calls: list[Reproduction], dmf_fast: Run) -> None:
    result = dmf_fast("reproduce", "figure9")
    assert result.exit_code == 2
    assert result.stderr == "Error: TARGET must be one of figure1, norms or all, got 'figure9'\n"
    assert not calls


def test_a_folder_without_movielens_is_refused(
    calls: list[Reproduction], dmf_fast: Run, movielens: Path
) -> None:
    (movielens / "u1.test").unlink()
    result = dmf_fast("reproduce", "--movielens", movielens)
    assert result.exit_code == 2
    assert f"but {movielens} has no u1.test; name the folder" in result.stderr
    assert not calls


def test_a_file_in_place_of_the_folder_is_refused(
    calls: list[Reproduction], dmf_fast: Run, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    result = dmf_fast("reproduce", "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert "is a file; name a folder\n" in result.stderr
    assert not calls


def test_ctrl_c_prints_how_to_resume(
    calls: list[Reproduction], dmf_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(reproduction: Reproduction) -> Section:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["fake_norms"], "run", stopped)
    result = dmf_fast("reproduce", "--out", "here")
    assert result.exit_code == 130
    assert "Interrupted: here keeps the finished runs; the same command resumes." in result.stderr
    assert "The figure1" in (tmp_path / "here" / "report.html").read_text()


@pytest.mark.parametrize(
    ("name", "content"), [("report.html", "mine"), ("results.json", "[]"), ("results.json", '{"facts": {}}')]
)
def test_a_page_of_something_else_is_never_replaced(
    dmf_fast: Run, calls: list[Reproduction], tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    refused = dmf_fast("reproduce", "figure1", "--out", tmp_path, "--quiet")
    assert refused.exit_code == 2
    assert "holds a report.html or results.json from another program" in refused.stderr
    assert not calls
    assert (tmp_path / name).read_text() == content
