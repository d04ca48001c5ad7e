"""``dmf-fast info``: describes a trained folder or the installation."""

from __future__ import annotations

import click

from dmf_fast.checks import printable
from dmf_fast.cli.options import InfoOptions
from dmf_fast.serving.model_card import CARD
from dmf_fast.serving.trained_folder import TrainedFolder


def info(options: InfoOptions) -> None:
    """Print the model card of a trained folder, or facts about the installation."""
    if options.folder is None:
        from dmf_fast.info import report

        click.echo(report())
        return
    trained = TrainedFolder.open(options.folder)
    card = trained.checked(CARD)
    if card is not None:
        lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
        click.echo("\n".join(map(printable, lines)))
    else:
        (rows, columns), depth = trained.predictor.model.shape, len(trained.predictor.model.factors)
        click.echo(f"A model of depth {depth} for {rows:,} rows and {columns:,} columns.")
