"""The folder that a job leaves behind: whole or not there at all, and of one job at a time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from dmf_fast.files.atomic import atomic_file, atomic_folder
from dmf_fast.files.identity import first_difference, plain
from dmf_fast.files.lock import locked


class OutputFolder:
    """A folder of results, there when it is whole, and what the job that makes it keeps meanwhile.

    ``NAME.partial/checkpoints`` keeps what an interrupted job resumes from, and the settings of the job.
    """

    def __init__(self, path: Path, *, overwrite: bool = False, resume: bool = False) -> None:
        """Check that ``path`` may be written; nothing is created yet.

        Raises `ValueError` where it is a file, holds something already or an interrupted job is in the way.
        """
        self.path = path.absolute()
        self._work = self.path.with_name(self.path.name + ".partial")
        self._kept = self._work / "checkpoints"
        self._writing = ExitStack()
        self._results: Path | None = None
        self._record = self._kept / "settings.json"
        self._resume = resume
        # An interrupted job that was to overwrite still is.
        self._overwrite = overwrite or (resume and bool(self._recorded().get("overwrite")))
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"--out {path} is a file; name a folder")
        above = next(parent for parent in self.path.parents if parent.exists())
        if not (above.is_dir() and os.access(above, os.W_OK)):
            raise ValueError(f"--out {path} cannot be made: {above} is a file or may not be written to")
        self._check_path()

    @contextmanager
    def opened(self, description: dict[str, Any]) -> Iterator[None]:
        """Hold the folder for a job of this description, and publish it when the job has ended well.

        Where the job fails, what it has written is removed, unless checkpoints make it worth resuming.

        Raises `ValueError` where another job holds the folder, where an interrupted job was not to be
        resumed, or where it had another description.
        """
        before = self._work.exists()
        with locked(self._work):
            try:
                self._check_path()  # another job may have ended meanwhile
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
        """The folder to write results into while the job runs; it appears when that has ended well."""
        if self._results is None:
            self._results = self._writing.enter_context(atomic_folder(self.path))
        return self._results

    def agree_on_data(self, digests: dict[str, str]) -> None:
        """Note what data the job works on; a `ValueError` says where an interrupted job had other data."""
        record = self._kept / "data.json"
        if record.exists():
            _compare(json.loads(record.read_text()), digests, self._work)
        else:
            _write(record, digests)

    def checkpoint(self, name: str) -> Path:
        """Return where the checkpoint called ``name`` lives while the job runs."""
        return self._kept / name

    @property
    def holds_checkpoint(self) -> bool:
        """Whether there is something to resume from."""
        names = ("version-*", "trials.json")
        return any(path for name in names for path in self._kept.rglob(name))

    def discard(self) -> None:
        """Remove what the job has kept, checkpoints included."""
        shutil.rmtree(self._work, ignore_errors=True)

    def _check_path(self) -> None:
        if self.path.exists() and any(self.path.iterdir()) and not self._overwrite:
            done = (
                "is complete already, there is nothing to resume"
                if self._resume
                else "exists and is not empty"
            )
            raise ValueError(f"--out {self.path} {done}; name another folder or pass --overwrite")

    def _check_partial(self) -> None:
        if not self._kept.is_dir() and any(path.name != "lock" for path in self._work.iterdir()):
            raise ValueError(f"{self._work} is not an interrupted run; move it away, or name another --out")
        if self.holds_checkpoint and not (self._resume or self._overwrite):
            raise ValueError(
                f"{self._work} holds an interrupted run; pass --resume to resume it, or --overwrite to "
                "begin anew"
            )

    def _begin(self, description: dict[str, Any]) -> None:
        """Write the description into an empty folder, or compare it with that of an interrupted job."""
        if self._resume and self._record.exists():
            before, now = self._recorded().get("description", {}), plain(description)
            _compare(before, now, self._work)
            return
        for path in self._work.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()
        _write(self._record, {"overwrite": self._overwrite, "description": description})

    def _recorded(self) -> dict[str, Any]:
        """Return what an interrupted job has left about itself; nothing where there is none."""
        if not self._record.exists():
            return {}
        recorded: dict[str, Any] = json.loads(self._record.read_text())
        return recorded


def _write(path: Path, record: dict[str, Any]) -> None:
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(record, indent=2) + "\n")


def _compare(before: dict[str, Any], now: dict[str, Any], work: Path) -> None:
    difference = first_difference(before, now)
    if difference is not None:
        raise ValueError(
            f"the interrupted run in {work} is another job: {difference}; repeat the same options, or pass "
            "--overwrite to begin anew"
        )
