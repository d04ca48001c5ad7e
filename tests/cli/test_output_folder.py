"""An output folder is complete or absent, whatever ends the job and whenever it is killed."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from dmf_fast.cli.output_folder import OutputFolder
from dmf_fast.files import atomic
from dmf_fast.files.digests import summed_folder
from dmf_fast.serving.trained_folder import FACTS

JOB = {"steps": 5}


class Killed(BaseException):
    """Stands for the end of the process."""


def fill(folder: OutputFolder) -> None:
    """Do the work of a job: a checkpoint, and a result."""
    (folder.checkpoint("search") / "version-1").mkdir(parents=True, exist_ok=True)
    write_results(folder.results, "new")


def write_results(folder: Path, text: str) -> None:
    (folder / FACTS).touch()
    (folder / "model").write_text(text)


def finished(path: Path, text: str = "old") -> Path:
    """Make the folder that a job has left."""
    with summed_folder(path) as folder:
        write_results(folder, text)
    return path


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
    assert names(folder.path) == ["SHA256SUMS", "model", FACTS]


@pytest.mark.parametrize("place", [1, 2, 3])
def test_a_kill_while_an_older_folder_is_replaced_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    finished(tmp_path / "out")
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
        write_results(resumed.results, "new")
        assert (tmp_path / "out" / "model").read_text() == "old"
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "model").read_text() == "new"


def test_a_job_with_other_settings_does_not_resume(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("below", ["", "checkpoints"])
def test_a_folder_of_another_kind_is_left_alone(tmp_path: Path, below: str) -> None:
    precious = tmp_path / "out.partial" / below / "precious"
    precious.mkdir(parents=True)

    folder = OutputFolder(tmp_path / "out", overwrite=True)
    with pytest.raises(ValueError, match="move it away"), folder.opened(JOB):
        pass

    assert precious.exists()


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_what_no_job_has_left_is_never_replaced(tmp_path: Path, when: str) -> None:
    out = finished(tmp_path / "out")
    if when == "before":
        (out / "thesis.txt").write_text("precious")
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(FileExistsError, match=r"holds thesis\.txt, which does not belong"))
        folder = OutputFolder(out, overwrite=True)
        stack.enter_context(folder.opened(JOB))
        fill(folder)
        (out / "thesis.txt").write_text("precious")
    assert (out / "thesis.txt").read_text() == "precious"
    assert (out / "model").read_text() == "old"
    assert (tmp_path / "out.partial").exists() == (when == "meanwhile")  # to be resumed elsewhere


@pytest.mark.parametrize("listing", ["", "0" * 64 + "  thesis.txt\n", "0" * 64 + f"  {FACTS}\n"])
def test_a_list_of_digests_alone_makes_no_folder_ours(tmp_path: Path, listing: str) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    (tmp_path / "SHA256SUMS").write_text(listing)
    with pytest.raises(FileExistsError, match="does not belong to a trained model"):
        OutputFolder(tmp_path, overwrite=True)


def test_a_link_to_a_folder_stays_a_link_to_the_new_one(tmp_path: Path) -> None:
    finished(tmp_path / "real" / "out")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "out")
    folder = OutputFolder(tmp_path / "link", overwrite=True)
    with folder.opened(JOB):
        fill(folder)
        assert names(tmp_path / "real")[-2:] == ["out", "out.partial"]
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "out" / "model").read_text() == "new"
    assert names(tmp_path) == ["link", "real"]


@pytest.mark.parametrize("planted", ["link", "dangling link", "link inside", "file", "link as lock"])
def test_what_was_planted_in_the_place_of_the_checkpoints_is_refused(tmp_path: Path, planted: str) -> None:
    victim, work = tmp_path / "victim", tmp_path / "out.partial"
    (victim / "checkpoints").mkdir(parents=True)
    (victim / "checkpoints" / "precious").write_text("precious")
    if planted == "file":
        work.write_text("precious")
    elif planted == "link":
        work.symlink_to(victim)
    elif planted == "dangling link":
        work.symlink_to(tmp_path / "nowhere")
    else:
        work.mkdir()
        name, target = {
            "link inside": ("checkpoints", victim / "checkpoints"),
            "link as lock": ("lock", victim / "checkpoints" / "precious"),
        }[planted]
        (work / name).symlink_to(target)
    folder = OutputFolder(tmp_path / "out", overwrite=True)
    with pytest.raises(ValueError, match=r"out\.partial.* (a link|got a file)"), folder.opened(JOB):
        pytest.fail("the job has begun")
    assert (victim / "checkpoints" / "precious").read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


def test_a_job_that_has_ended_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    late = OutputFolder(tmp_path / "out")
    first = OutputFolder(tmp_path / "out")
    with first.opened(JOB):
        write_results(first.results, "first")

    with pytest.raises(ValueError, match="exists and is not empty"), late.opened(JOB):
        pass

    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "model").read_text() == "first"
