"""An output folder: whole or not there, whatever ends the job and whenever it is killed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dmf_fast.cli.output_folder import OutputFolder
from dmf_fast.files import atomic

JOB = {"steps": 5}


class Killed(BaseException):
    """Stands for the end of the process."""


def fill(folder: OutputFolder) -> None:
    """Do the work of a job: a checkpoint, and a result."""
    (folder.checkpoint("search") / "version-1").mkdir(parents=True, exist_ok=True)
    (folder.results / "model").write_text("new")


def die_at_work(folder: OutputFolder) -> None:
    """Do the work of a job that comes to no end."""
    with pytest.raises(Killed), folder.opened(JOB):
        _work_and_die(folder)


def _work_until(folder: OutputFolder, then: Callable[[], None]) -> None:
    fill(folder)
    then()


def _work_and_die(folder: OutputFolder) -> None:
    fill(folder)
    raise Killed


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_job_that_ends_well_leaves_its_results_alone(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "below" / "out")
    with folder.opened(JOB):
        assert not folder.path.exists()
        fill(folder)

    assert names(tmp_path / "below") == ["out"]
    assert names(folder.path) == ["model"]


@pytest.mark.parametrize("place", [1, 2])
def test_a_kill_while_an_older_folder_is_replaced_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model").write_text("old")
    replace, calls = os.replace, 0

    def killed(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == place:
            raise Killed
        replace(source, target)

    folder = OutputFolder(tmp_path / "out", overwrite=True)
    monkeypatch.setattr(atomic, "_exchanged", lambda *_: False)  # a file system that cannot
    with monkeypatch.context() as patch, pytest.raises(Killed), folder.opened(JOB):
        _work_until(folder, lambda: patch.setattr(os, "replace", killed))

    resumed = OutputFolder(tmp_path / "out", resume=True)
    with resumed.opened(JOB):
        (resumed.results / "model").write_text("new")
        assert (tmp_path / "out" / "model").read_text() == "old"
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "model").read_text() == "new"


def test_a_job_of_other_settings_does_not_go_on(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "out")
    die_at_work(folder)

    again = OutputFolder(tmp_path / "out", resume=True)
    with pytest.raises(ValueError, match="steps was 5 there and is 6 here"), again.opened({"steps": 6}):
        pass
    assert again.holds_checkpoint


def test_an_interrupted_job_is_not_overwritten_unasked(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "out")
    die_at_work(folder)

    with pytest.raises(ValueError, match="pass --resume"), OutputFolder(tmp_path / "out").opened(JOB):
        pass
    assert folder.holds_checkpoint
    with OutputFolder(tmp_path / "out", overwrite=True).opened(JOB):
        assert not folder.holds_checkpoint


def test_a_folder_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "out.partial" / "precious"
    precious.mkdir(parents=True)

    folder = OutputFolder(tmp_path / "out", overwrite=True)
    with pytest.raises(ValueError, match="move it away"), folder.opened(JOB):
        pass

    assert precious.exists()


def test_a_job_that_has_ended_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    late = OutputFolder(tmp_path / "out")
    first = OutputFolder(tmp_path / "out")
    with first.opened(JOB):
        (first.results / "model").write_text("first")

    with pytest.raises(ValueError, match="exists and is not empty"), late.opened(JOB):
        pass

    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "model").read_text() == "first"
