"""``dmf-fast predict``: predictions at the pairs of a file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv
from typer import Argument

from dmf_fast.cli.data_settings import TableSettings
from dmf_fast.cli.model_choice import ModelChoice, check_target
from dmf_fast.cli.option import option
from dmf_fast.cli.problem import echo_bad_rows, refuse_unknown
from dmf_fast.data import read_pairs
from dmf_fast.files.atomic import atomic_file


@dataclass(frozen=True, kw_only=True)
class PredictSettings(TableSettings, ModelChoice):
    """The options of ``predict``."""

    pairs: Annotated[Path, Argument(help="File of (row, column) pairs: text, Parquet, .mtx or .npz.")]
    out: Annotated[
        Path | None, option("File to write, .csv or .parquet. [default: CSV on standard output]")
    ] = None
    unknown: Annotated[
        str, option("Pairs with an unknown id: mean (plus known bias), nan or raise. [default: mean]")
    ] = "mean"
    columns: Annotated[
        str | None, option("Row and column by name or position: user,item. [default: recognised]")
    ] = None
    overwrite: Annotated[bool, option("Replace the file --out.", "--overwrite")] = False


def predict(settings: PredictSettings) -> None:
    """Predict the value at every pair of a file; the order of the file is kept.

    The column known says where both ids are known; elsewhere the prediction is a fallback.
    """
    if settings.unknown not in ("mean", "nan", "raise"):
        raise ValueError(f"--unknown must be one of mean, nan, raise, but {settings.unknown!r} came.")
    if settings.out is not None:
        check_target(settings.out, (".csv", ".parquet"), overwrite=settings.overwrite)
    trained = settings.opened()
    text_ids = (trained.row_ids.holds_text, trained.column_ids.holds_text)
    pairs = read_pairs(settings.pairs, settings.read_options(text_ids=text_ids))
    echo_bad_rows(settings.pairs, pairs.bad_rows)
    mapped = pairs.mapped_to(trained.row_ids, trained.column_ids)
    if settings.unknown == "raise":
        refuse_unknown(pairs, mapped, str(settings.folder))
    predictions = trained.predictor.predict(mapped.rows, mapped.columns)
    known = predictions.known
    table = {
        "row": pairs.row_ids.ids_at(pairs.rows),
        "column": pairs.column_ids.ids_at(pairs.columns),
        "prediction": np.where(known | (settings.unknown == "mean"), predictions.values, np.nan),
        "known": known,
    }
    _write(pa.table(table), settings.out)


def _write(table: pa.Table, out: Path | None) -> None:
    """Write a file whole or not at all, or CSV to standard output."""
    if out is None:
        csv.write_csv(table, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    with atomic_file(out) as partial:
        if out.suffix == ".csv":
            csv.write_csv(table, partial)
        else:
            pq.write_table(table, partial)
