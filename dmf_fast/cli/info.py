"""``dmf-fast info``: describes a trained folder or the installation."""

from __future__ import annotations

import click

from dmf_fast.checks import printable
from dmf_fast.cli.model_options import InfoOptions
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
        click.echo(_facts(trained))


def _facts(trained: TrainedFolder) -> str:
    """Return what is known without a card, as of a folder of `MatrixCompleter.save`."""
    predictor, entries = trained.predictor, len(trained.seen.columns)
    (rows, columns), depth = predictor.model.shape, len(predictor.model.factors)
    trained_on = f"{entries:,} ratings" if entries else "ratings that were not kept"
    return (
        f"A model of depth {depth} for {rows:,} rows (users) and {columns:,} columns (items), trained on "
        f"{trained_on}\nfrom {predictor.lowest:g} to {predictor.highest:g} with mean "
        f"{predictor.training_mean:.4g}. The folder has no model card; dmf-fast complete --out writes one."
    )
