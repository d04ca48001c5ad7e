"""The output folder of a job: complete or absent, and written by one job at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from dmf_fast.checks import printable
from dmf_fast.cli.targets import check_utf8
from dmf_fast.files.atomic import place_of, put_back
from dmf_fast.files.digests import summed_folder
from dmf_fast.files.identity import first_difference, plain
from dmf_fast.files.lock import LOCK, locked
from dmf_fast.files.reading import reading
from dmf_fast.files.records import load_record, save_record
from dmf_fast.serving.trained_folder import refuse_foreign

PAGE = "report.html"
METRICS, HISTORY, CONFIG = "metrics.json", "history.parquet", "config.yaml"


class _Settings(msgspec.Struct, forbid_unknown_fields=True):
    """What an interrupted job recorded about itself."""

    overwrite: bool = False
    description: dict[str, Any] = {}


class OutputFolder:
    """A folder of results, which appears once it is complete, and what its job keeps meanwhile.

    ``NAME.partial/checkpoints`` holds the settings of a job, and the checkpoints from which it resumes.
    """

    def __init__(self, path: Path, *, overwrite: bool = False, resume: bool = False) -> None:
        """Check that ``path`` may be written; nothing is created yet.

        Raises a `ValueError` if it is a file, not UTF-8 or not empty, or an interrupted job is in the way,
        and a `FileExistsError` if it holds files that no job wrote, which are never replaced.
        """
        check_utf8("--out", path)
        self.path = place_of(path)
        if not self.path.name:
            raise ValueError(f"--out must name a folder, got {path}")
        put_back(self.path)
        self._work = _work_of(self.path)
        self._kept = self._work / "checkpoints"
        self._writing = ExitStack()
        self._results: Path | None = None
        self._record = self._kept / "settings.json"
        self._resume = resume
        # An interrupted job that was told to overwrite still does.
        self._overwrite = overwrite or (resume and self._recorded().overwrite)
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"--out {printable(path)} is a file; name a folder")
        above = next(parent for parent in self.path.parents if parent.exists())
        if not (above.is_dir() and os.access(above, os.W_OK)):
            raise ValueError(
                f"--out {printable(path)} cannot be created: {printable(above)} is a file or is not writable"
            )
        self._check_path()

    @contextmanager
    def opened(self, description: dict[str, Any]) -> Iterator[None]:
        """Lock the folder for a job of this description, and publish it when the job succeeds.

        If the job fails, what it wrote is removed, unless there are checkpoints to resume from.

        Raises a `ValueError` if another job holds the folder, if there is an interrupted job that should not
        be resumed, or if that job had another description.
        """
        if self._work.is_symlink() or self._kept.is_symlink():
            raise ValueError(
                f"{printable(self._work)} is, or holds, a link; remove that, or name another --out"
            )
        before = self._work.exists()
        with locked(self._work):
            try:
                self._check_path()  # another job may have finished meanwhile
                if before:
                    self._check_partial()
                self._begin(description)
            except BaseException:
                if not before:
                    self.discard()
                raise
            try:
                with self._writing:
                    yield
            except BaseException:
                if not self.holds_checkpoint:
                    self.discard()
                raise
            self.discard()

    @property
    def results(self) -> Path:
        """The folder to write results into while the job runs; it is published when the job succeeds."""
        if self._results is None:
            self._results = self._writing.enter_context(self._published())
        return self._results

    @contextmanager
    def _published(self) -> Iterator[Path]:
        with summed_folder(self.path) as partial:
            yield partial
            try:
                self._check_path()  # hours after the first time
            except ValueError as error:
                raise FileExistsError(str(error)) from error

    def agree_on_data(self, digests: dict[str, str]) -> None:
        """Record the data of the job; raise a `ValueError` if the interrupted job had other data."""
        record = self._kept / "data.json"
        if record.exists():
            _compare(_loaded(record, dict[str, str]), digests, self._work)
        else:
            save_record(record, digests)

    def checkpoint(self, name: str) -> Path:
        """Return the folder of the checkpoint called ``name``, which exists while the job runs."""
        return self._kept / name

    @property
    def holds_checkpoint(self) -> bool:
        """Whether there is something to resume from."""
        names = ("version-*", "trials.json")
        return any(path for name in names for path in self._kept.rglob(name))

    def discard(self) -> None:
        """Remove what the job kept, including checkpoints."""
        shutil.rmtree(self._kept, ignore_errors=True)
        with suppress(OSError):
            (self._work / LOCK).unlink()
            self._work.rmdir()

    def _check_path(self) -> None:
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return
        if not self._overwrite:
            done = (
                "is already complete, there is nothing to resume"
                if self._resume
                else "exists and is not empty"
            )
            raise ValueError(f"--out {printable(self.path)} {done}; name another folder or pass --overwrite")
        if not os.access(self.path, os.W_OK):
            raise ValueError(f"--out {printable(self.path)} is not writable; name another folder")
        refuse_foreign(self.path)

    def _check_partial(self) -> None:
        names = {path.name for path in self._work.iterdir()} - {LOCK}
        kept = {path.name for path in self._kept.iterdir()} if self._kept.is_dir() else set()
        # A job that was killed right away may have left nothing but partial files of its settings.
        begun = self._record.is_file() or all(name.endswith(".partial") for name in kept)
        if names - {self._kept.name} or not begun:
            raise ValueError(
                f"{printable(self._work)} is not an interrupted run; move it away, or name another --out"
            )
        if self.holds_checkpoint and not (self._resume or self._overwrite):
            raise ValueError(
                f"{printable(self._work)} holds an interrupted run; pass --resume to resume it, or "
                "--overwrite to start over"
            )

    def _begin(self, description: dict[str, Any]) -> None:
        """Write the description into an empty folder, or compare it with that of an interrupted job."""
        if self._resume and self._record.exists():
            _compare(self._recorded().description, plain(description), self._work)
            return
        shutil.rmtree(self._kept, ignore_errors=True)
        save_record(self._record, {"overwrite": self._overwrite, "description": plain(description)})

    def _recorded(self) -> _Settings:
        """Return what an interrupted job recorded about itself, or defaults if it recorded nothing."""
        return _loaded(self._record, _Settings) if self._record.is_file() else _Settings()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Lock the folder of a finished job, so that no other job replaces it meanwhile.

    Raises a `ValueError` if another job holds it.
    """
    work = _work_of(place_of(path))
    with locked(work):
        try:
            yield
        finally:
            if [entry.name for entry in work.iterdir()] == [LOCK]:  # otherwise an interrupted job's
                (work / LOCK).unlink()
                work.rmdir()


def _work_of(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _loaded(path: Path, kind: Any) -> Any:
    with reading(path, "a record of an interrupted run", "pass --overwrite to start over"):
        return load_record(path, kind)


def _compare(before: dict[str, Any], now: dict[str, Any], work: Path) -> None:
    difference = first_difference(before, now)
    if difference is not None:
        raise ValueError(
            f"the interrupted run in {printable(work)} is another job: {difference}; repeat the same "
            "options, or pass --overwrite to start over"
        )
