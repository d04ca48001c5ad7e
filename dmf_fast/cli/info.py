"""``dmf-fast info``: what is installed, and what a trained folder holds."""

from __future__ import annotations

import click

from dmf_fast.cli.options import InfoOptions
from dmf_fast.cli.output import CARD
from dmf_fast.serving.trained_folder import TrainedFolder


def info(options: InfoOptions) -> None:
    """Print what a trained folder holds, or what is installed."""
    if options.folder is None:
        from dmf_fast.info import report

        click.echo(report())
        return
    model = TrainedFolder.open(options.folder).predictor.model
    card = options.folder / CARD
    if card.is_file():
        click.echo(card.read_text(encoding="utf-8"), nl=False)
    else:
        rows, columns = model.shape
        click.echo(f"A model of depth {len(model.factors)} for {rows:,} rows and {columns:,} columns.")
