"""Options that commands share which use a trained folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument

from dmf_fast.cli.option import option
from dmf_fast.serving.trained_folder import TrainedFolder


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """Which model of which folder is used."""

    folder: Annotated[
        Path, Argument(metavar="MODEL", help="Folder that dmf-fast complete or tune has written.")
    ]
    depth: Annotated[
        int | None, option("Which model, where the folder holds several. [default: the best]")
    ] = None

    def opened(self) -> TrainedFolder:
        """Return the model with its ids."""
        return TrainedFolder.open(self.folder, self.depth)


def check_target(out: Path, suffixes: tuple[str, ...], *, overwrite: bool) -> None:
    """Raise a `ValueError` where a file may not be written, before the work that it is for."""
    if out.suffix not in suffixes:
        raise ValueError(f"{out.name!r} must end in {' or '.join(suffixes)}; name such a file.")
    if out.exists() and not overwrite:
        raise ValueError(f"{out} exists; name another file or say --overwrite.")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"{out}: the folder {out.parent} does not exist; create it first.")
