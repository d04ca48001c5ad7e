"""The folder that a job leaves behind: whole or not there at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any


class OutputFolder:
    """A folder that is built beside its place, as ``NAME.partial``, and moved there when it is whole.

    ``NAME.partial`` also keeps the checkpoints, so an interrupted job can go on from it.
    """

    def __init__(self, path: Path, *, overwrite: bool = False, resume: bool = False) -> None:
        """Check that ``path`` may be written; nothing is created yet.

        Raises `ValueError` where it is a file, holds something already or an interrupted job is in the way.
        """
        self.path = path.absolute()
        self.partial = self.path.with_name(self.path.name + ".partial")
        self._replaced = self.path.with_name(self.path.name + ".replaced")
        self._resume = resume
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"--out {path} is a file; name a folder.")
        above = next(parent for parent in self.path.parents if parent.exists())
        if not (above.is_dir() and os.access(above, os.W_OK)):
            raise ValueError(f"--out {path} cannot be made: {above} is a file or may not be written to.")
        if self.path.exists() and any(self.path.iterdir()) and not overwrite:
            done = "is complete already, there is nothing to resume" if resume else "exists and is not empty"
            raise ValueError(f"--out {path} {done}; name another folder or say --overwrite.")
        if self.partial.exists() and not (resume or overwrite):
            raise ValueError(
                f"{self.partial} holds an interrupted run; say --resume to go on with it or --overwrite to "
                "begin anew."
            )

    def open(self, description: dict[str, Any]) -> None:
        """Create the partial folder, or take up the one of an interrupted job of the same description."""
        record = self.partial / "settings.json"
        if self._resume and record.exists():
            _compare(json.loads(record.read_text()), json.loads(json.dumps(description)), self.partial)
            return
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)
        record.write_text(json.dumps(description, indent=2) + "\n")

    def checkpoint(self, name: str) -> Path:
        """Return where the checkpoint called ``name`` lives while the job runs."""
        return self.partial / "checkpoints" / name

    def publish(self) -> None:
        """Drop the checkpoints and move the whole folder to its place."""
        shutil.rmtree(self.partial / "checkpoints", ignore_errors=True)
        if self.path.exists():
            shutil.rmtree(self._replaced, ignore_errors=True)
            os.replace(self.path, self._replaced)
        os.replace(self.partial, self.path)
        shutil.rmtree(self._replaced, ignore_errors=True)

    def give_up(self) -> None:
        """Remove what a failed job has written, unless checkpoints make it worth going on."""
        if not any(self.checkpoint("").glob("*")):
            self.discard()

    def discard(self) -> None:
        """Remove what a job has written, checkpoints included."""
        shutil.rmtree(self.partial, ignore_errors=True)


def _compare(before: dict[str, Any], now: dict[str, Any], partial: Path) -> None:
    for name in before.keys() | now.keys():
        if before.get(name) != now.get(name):
            raise ValueError(
                f"the interrupted run in {partial} had {name} = {before.get(name)!r}, this one has "
                f"{now.get(name)!r}; repeat the same options, or say --overwrite to begin anew."
            )
