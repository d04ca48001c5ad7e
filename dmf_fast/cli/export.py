"""``dmf-fast export``: factors, biases and ids for other software."""

from __future__ import annotations

import click

from dmf_fast.cli.model_options import ExportOptions
from dmf_fast.cli.streams import shown
from dmf_fast.cli.targets import check_target
from dmf_fast.serving import collapse, export_factors
from dmf_fast.serving.trained_folder import TrainedFolder


def export(options: ExportOptions) -> None:
    """Write the model as two factors with biases and ids."""
    suffixes, inputs = (".npz", ".safetensors", ".parquet"), {"MODEL": options.folder}
    check_target(options.out, suffixes, inputs, overwrite=options.overwrite)
    trained = TrainedFolder.open(options.folder, options.depth)
    two_factors = trained.two_factors
    if options.rank is not None:
        two_factors = collapse(trained.predictor.model, options.rank)
    export_factors(two_factors, trained.row_ids, trained.column_ids, options.out)
    rows, columns = two_factors.shape
    click.echo(shown(f"{rows:,} rows, {columns:,} columns, {two_factors.width} numbers each: {options.out}"))
