"""After Ctrl-C, a full disk, a second run or a kill, progress is kept and the final result is the same."""

from __future__ import annotations

import errno
import re
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from dmf_fast.cli import complete
from dmf_fast.files import checkpoint
from dmf_fast.files.lock import locked
from dmf_fast.training import Progress

Run = Callable[..., Result]
OPTIONS = (
    "--depth", "2", "--hidden", "4", "--steps", "60", "--evaluate-every", "10", "--checkpoint-every", "10",
    "--quiet",
)  # fmt: skip
MODEL = "model-depth-2.safetensors"


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Python's own handler, also where the tests run in the background and SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def whole(dmf_fast: Run, ratings_file: Path, tmp_path: Path) -> bytes:
    """The model of a run that nothing has interrupted."""
    assert dmf_fast("complete", ratings_file, "--out", tmp_path / "whole", *OPTIONS).exit_code == 0
    return (tmp_path / "whole" / MODEL).read_bytes()


def ctrl_c_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have SIGINT come in the evaluation of a step."""

    def callback(progress: Progress) -> None:
        if progress.step == step:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(complete, "shows_lines", lambda *, quiet: True)
    monkeypatch.setattr(complete, "spoken_progress", lambda *_: callback)


def test_ctrl_c_saves_and_prints_the_command_that_resumes_to_the_same_model(
    dmf_fast: Run, ratings_file: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    whole: bytes,
) -> None:  # fmt: skip
    out = tmp_path / "a model"
    shutil.copytree(trained, out)
    older = (out / MODEL).read_bytes()
    with monkeypatch.context() as patch:
        ctrl_c_at(30, patch)
        interrupted = dmf_fast("complete", ratings_file, "--out", out, "--overwrite", *OPTIONS)

    assert interrupted.exit_code == 130
    assert interrupted.stdout == ""
    # Steps are made in slices: the run ends with the one after the signal.
    assert re.search(r"^Interrupted at step (3[1-9]|40) of depth 2", interrupted.stderr)
    assert (out / MODEL).read_bytes() == older
    program, *arguments = shlex.split(interrupted.stderr.splitlines()[-1])
    assert program == "dmf-fast"
    resumed = dmf_fast(*arguments)
    assert resumed.exit_code == 0, resumed.stderr
    assert (out / MODEL).read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir() if path.name != "whole"] == ["a model"]


def test_ctrl_c_without_out_says_that_nothing_is_kept(
    dmf_fast: Run, ratings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctrl_c_at(30, monkeypatch)

    result = dmf_fast("complete", ratings_file, *OPTIONS[:-3], "--quiet")

    assert result.exit_code == 130
    assert "nothing is kept; with --out FOLDER" in result.stderr


def test_ctrl_c_while_reading_leaves_nothing(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dmf_fast.cli.problem.open_ratings", interrupted)

    result = dmf_fast("complete", ratings_file, "--out", tmp_path / "out", *OPTIONS)

    assert result.exit_code == 130
    assert "nothing is kept" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_previous_checkpoint_and_prints_how_to_resume(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bytes
) -> None:
    saved, write_tensors = [], checkpoint.write_tensors

    def full(tensors: Any, path: Path) -> None:
        saved.append(path)
        if len(saved) == 3:
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_tensors(tensors, path)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_tensors", full)
        failed = dmf_fast("complete", ratings_file, "--out", out, *OPTIONS)

    assert failed.exit_code == 2
    assert "No space left on device" in failed.stderr
    assert "up to the last checkpoint is kept" in failed.stderr
    resumed = dmf_fast(*shlex.split(failed.stderr.splitlines()[-1])[1:])
    assert resumed.exit_code == 0, resumed.stderr
    assert (out / MODEL).read_bytes() == whole


def test_a_second_run_on_the_same_folder_is_refused_and_disturbs_nothing(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path
) -> None:
    partial = tmp_path / "out.partial"
    with locked(partial):
        (partial / "checkpoints").mkdir()
        for more in ((), ("--resume",), ("--overwrite",)):
            result = dmf_fast("complete", ratings_file, "--out", tmp_path / "out", *more, *OPTIONS)

            assert result.exit_code == 2
            assert "in use by another run" in result.stderr
        assert {path.name for path in partial.iterdir()} == {"lock", "checkpoints"}


def test_a_checkpoint_setting_is_not_silently_ignored(dmf_fast: Run, ratings_file: Path) -> None:
    result = dmf_fast("complete", ratings_file, *OPTIONS)

    assert result.exit_code == 2
    assert "--checkpoint-every needs --out" in result.stderr


def test_a_resume_does_not_degrade(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bytes
) -> None:
    out = tmp_path / "out"
    for step in (10, 20, 40):
        with monkeypatch.context() as patch:
            ctrl_c_at(step, patch)
            resume = () if step == 10 else ("--resume",)
            assert dmf_fast("complete", ratings_file, "--out", out, *OPTIONS, *resume).exit_code == 130

    assert dmf_fast("complete", ratings_file, "--out", out, *OPTIONS, "--resume").exit_code == 0
    assert (out / MODEL).read_bytes() == whole


def test_a_failure_without_a_checkpoint_leaves_nothing(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_tensors", full)

    result = dmf_fast("complete", ratings_file, "--out", tmp_path / "out", *OPTIONS)

    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_ratings_that_have_changed_are_not_gone_on_with(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratings = tmp_path / "ratings.csv"
    ratings.write_text(ratings_file.read_text())
    with monkeypatch.context() as patch:
        ctrl_c_at(30, patch)
        assert dmf_fast("complete", ratings, "--out", tmp_path / "out", *OPTIONS).exit_code == 130
    ratings.write_text(ratings_file.read_text().replace(",1.00\n", ",1.01\n"))

    refused = dmf_fast("complete", ratings, "--out", tmp_path / "out", "--resume", *OPTIONS)

    assert refused.exit_code == 2
    assert "SHA-256 of ratings was " in refused.stderr
    assert (tmp_path / "out.partial").exists()
