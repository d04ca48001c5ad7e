"""``dmf-fast predict``: predictions at the pairs of a file."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv
from typer import Argument, Option

from dmf_fast.data import DataError, ReadOptions, read_pairs
from dmf_fast.serving.trained_folder import TrainedFolder


@dataclass(frozen=True)
class PredictSettings:
    """The options of ``predict``."""

    folder: Annotated[Path, Argument(metavar="DIR", help="Folder that dmf-fast complete --out wrote.")]
    pairs: Annotated[Path, Argument(help="File of (row, column) pairs: text, Parquet, .mtx or .npz.")]
    out: Annotated[
        Path | None, Option(help="File to write, .csv or .parquet; without it CSV on standard output.")
    ] = None
    unknown: Annotated[
        str, Option(help="Pairs with an unknown id: mean (plus known bias), nan or raise.")
    ] = "mean"
    depth: Annotated[int | None, Option(help="Which run to use, where the folder holds several.")] = None
    columns: Annotated[str | None, Option(help="Row and column by name or position, such as user,item.")] = (
        None
    )
    separator: Annotated[str | None, Option(help="Separator of a text table.")] = None
    overwrite: Annotated[bool, Option("--overwrite", help="Replace the file --out.")] = False


def predict(settings: PredictSettings) -> None:
    """Predict the value at every pair of a file; the order of the file is kept."""
    _check(settings)
    trained = TrainedFolder.open(settings.folder, settings.depth)
    options = ReadOptions(
        columns=None if settings.columns is None else [name.strip() for name in settings.columns.split(",")],
        separator=settings.separator,
        text_ids=(trained.row_ids.holds_text, trained.column_ids.holds_text),
        strict=True,
    )
    pairs = read_pairs(settings.pairs, options)
    mapped = pairs.mapped_to(trained.row_ids, trained.column_ids)
    if settings.unknown == "raise" and not mapped.known.all():
        first = int(mapped.known.argmin())
        raise DataError(
            f"{pairs.place(first)}: the pair {pairs.pair_text(first)} has an id that the model has not seen; "
            "drop it, or say --unknown mean or --unknown nan."
        )
    predictions = trained.predictor.predict(mapped.rows, mapped.columns)
    values = np.where(predictions.known | (settings.unknown == "mean"), predictions.values, np.nan)
    row_ids, column_ids = pairs.row_ids.ids_at(pairs.rows), pairs.column_ids.ids_at(pairs.columns)
    _write(pa.table({"row": row_ids, "column": column_ids, "prediction": values}), settings.out)


def _check(settings: PredictSettings) -> None:
    if settings.unknown not in ("mean", "nan", "raise"):
        raise ValueError(f"--unknown must be one of mean, nan, raise, but {settings.unknown!r} came.")
    out = settings.out
    if out is None:
        return
    if out.suffix not in (".csv", ".parquet"):
        raise ValueError(f"--out must end in .csv or .parquet, not {out.name!r}; name such a file.")
    if out.exists() and not settings.overwrite:
        raise ValueError(f"--out {out} exists; name another file or say --overwrite.")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"--out {out}: the folder {out.parent} does not exist; create it first.")


def _write(table: pa.Table, out: Path | None) -> None:
    """Write a file whole or not at all, or CSV to standard output."""
    if out is None:
        csv.write_csv(table, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    partial = out.with_name(out.name + ".partial")
    try:
        if out.suffix == ".csv":
            csv.write_csv(table, partial)
        else:
            pq.write_table(table, partial)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
