"""``dmf-fast info``: what is installed, and what a trained folder holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument

from dmf_fast.cli.trained_output import CARD
from dmf_fast.serving.trained_folder import TrainedFolder


@dataclass(frozen=True, kw_only=True)
class InfoSettings:
    """The options of ``info``."""

    folder: Annotated[
        Path | None,
        Argument(metavar="[MODEL]", help="Folder that dmf-fast complete or tune has written."),
    ] = None


def info(settings: InfoSettings) -> None:
    """Print what a trained folder holds; without one, versions, instruction set, threads and CUDA."""
    if settings.folder is None:
        from dmf_fast.info import report

        typer.echo(report())
        return
    model = TrainedFolder.open(settings.folder).predictor.model
    card = settings.folder / CARD
    if card.is_file():
        typer.echo(card.read_text(encoding="utf-8"), nl=False)
    else:
        rows, columns = model.shape
        typer.echo(f"A model of depth {len(model.factors)} for {rows:,} rows and {columns:,} columns.")
