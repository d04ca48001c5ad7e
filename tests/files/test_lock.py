"""One run at a time in a folder: others are refused, and a killed run blocks nobody."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dmf_fast import Observations
from dmf_fast.files.lock import locked
from dmf_fast.training import FitOptions, Trial, fit, fit_many
from tests.killing import ROOT, assert_runs

TRAIN = Observations([0, 1], [0, 1], [2.0, 3.0], (2, 2))
IN_USE = "is in use by another run; wait until that has ended, or choose another folder"


def fit_in(folder: Path, **arguments: Any) -> None:
    options = FitOptions(steps=3)
    fit([torch.eye(2)], TRAIN, torch.optim.SGD, options, checkpoint=folder, resume=True, **arguments)


def fit_many_in(folder: Path) -> None:
    fit_many([Trial({"seed": 0}, [torch.eye(2)], TRAIN, torch.optim.SGD, FitOptions(steps=3))], folder=folder)


HOLD = """
import signal, sys
from pathlib import Path
from dmf_fast.files.lock import locked
with locked(Path({folder!r})):
    print("held", flush=True)
    signal.pause()
"""


def test_a_folder_that_another_process_uses_is_refused_until_that_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    command = [sys.executable, "-c", HOLD.format(folder=str(folder))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=IN_USE):
            fit_in(folder)
        assert [path.name for path in folder.iterdir()] == ["lock"]
        other.send_signal(signal.SIGKILL)
        assert other.wait() == -signal.SIGKILL
        fit_in(folder)
    assert len(list(folder.iterdir())) == 2


def test_a_run_holds_its_folder_until_it_ends(tmp_path: Path) -> None:
    refused = []

    def run_there_too(progress: object) -> None:
        with pytest.raises(ValueError, match=IN_USE):
            fit_in(tmp_path)
        refused.append(progress)

    fit_in(tmp_path, callbacks=[run_there_too])
    assert len(refused) >= 2
    fit_in(tmp_path)


def test_a_refused_run_leaves_the_lock_to_its_holder(tmp_path: Path) -> None:
    with locked(tmp_path):
        for _ in range(2):
            with pytest.raises(ValueError, match=IN_USE), locked(tmp_path):
                pass
    with locked(tmp_path):
        pass


def test_a_run_that_fails_leaves_no_lock(tmp_path: Path) -> None:
    with pytest.raises(LookupError), locked(tmp_path):
        raise LookupError("not mine")
    with locked(tmp_path):
        pass


FORK = """
import os
from pathlib import Path
from dmf_fast.files.lock import locked
begin, end = os.pipe()
with locked(Path({folder!r})):
    child = os.fork()
    if child == 0:
        os.close(end)
        os.read(begin, 1)  # until the other end is closed
        os._exit(0)
with locked(Path({folder!r})):
    os.close(end)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_a_process_forked_meanwhile_does_not_keep_the_lock(tmp_path: Path) -> None:
    assert_runs(FORK.format(folder=str(tmp_path)))


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file must be a folder, got a file"):
        fit_many_in(tmp_path / "file")


def test_a_file_system_without_locks_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*arguments: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.warns(UserWarning, match="cannot be locked .* see to it that no other run uses them"):
        fit_in(tmp_path)
    assert any(tmp_path.glob("version-*"))


def test_too_many_open_files_are_not_a_file_system_without_locks(tmp_path: Path) -> None:
    with locked(tmp_path / "first"):  # imports what it needs
        most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, most[1]))
        try:
            with pytest.raises(OSError, match=r"too many files are open .*ulimit -n") as error:
                locked(tmp_path / "second").__enter__()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, most)
    assert error.value.errno == errno.EMFILE
