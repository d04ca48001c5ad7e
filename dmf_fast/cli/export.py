"""``dmf-fast export``: factors, biases and ids for other software."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument

from dmf_fast.cli.model_choice import ModelChoice, check_target
from dmf_fast.cli.option import option
from dmf_fast.serving import collapse, export_factors


@dataclass(frozen=True, kw_only=True)
class ExportSettings(ModelChoice):
    """The options of ``export``."""

    out: Annotated[
        Path, Argument(metavar="OUT", help="File to write, .npz or .safetensors; or a folder, .parquet.")
    ]
    rank: Annotated[
        int | None, option("Width of the two factors, the closest of that rank. [default: all]", min=1)
    ] = None
    overwrite: Annotated[bool, option("Replace OUT.", "--overwrite")] = False


def export(settings: ExportSettings) -> None:
    """Write the model as two factors with biases and ids, whatever its depth.

    A prediction is mean + row bias + column bias + row factors · column factors, not clipped.
    """
    check_target(settings.out, (".npz", ".safetensors", ".parquet"), overwrite=settings.overwrite)
    trained = settings.opened()
    two_factors = trained.two_factors
    if settings.rank is not None:
        two_factors = collapse(trained.predictor.model, settings.rank)
    export_factors(two_factors, trained.row_ids, trained.column_ids, settings.out)
    rows, columns = two_factors.shape
    typer.echo(f"{rows:,} rows, {columns:,} columns, {two_factors.width} numbers each: {settings.out}")
