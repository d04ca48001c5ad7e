"""``dmf-fast predict``: predicts the values of pairs in a file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from dmf_fast.checks import printable
from dmf_fast.cli.model_options import PredictOptions
from dmf_fast.cli.problem import echo_bad_rows, refuse_unknown
from dmf_fast.cli.targets import check_target
from dmf_fast.data import read_pairs
from dmf_fast.data.arrow_types import is_text
from dmf_fast.files.atomic import atomic_file
from dmf_fast.serving.trained_folder import TrainedFolder


def predict(options: PredictOptions) -> None:
    """Write the prediction for every pair of a file."""
    if options.out is not None:
        inputs = {"MODEL": options.folder, "PAIRS": options.pairs}
        check_target(options.out, (".csv", ".parquet"), inputs, overwrite=options.overwrite)
    trained = TrainedFolder.open(options.folder, options.depth)
    text_ids = (trained.row_ids.holds_text, trained.column_ids.holds_text)
    pairs = read_pairs(options.pairs, options.read_options(text_ids=text_ids))
    echo_bad_rows(options.pairs, pairs.bad_rows)
    mapped = pairs.mapped_to(trained.row_ids, trained.column_ids)
    if options.unknown == "raise":
        refuse_unknown(pairs, mapped.known, str(options.folder))
    predictions = trained.predictor.predict(mapped.rows, mapped.columns)
    known = predictions.known
    table = {
        "user": pairs.row_ids.ids_at(pairs.rows),
        "item": pairs.column_ids.ids_at(pairs.columns),
        "prediction": np.where(known | (options.unknown == "mean"), predictions.values, np.nan),
        "known": known,
    }
    _write(pa.table(table), options.out)


def _write(table: pa.Table, out: Path | None) -> None:
    """Write a file atomically, or CSV to standard output."""
    if out is None:
        csv.write_csv(_shown(table) if sys.stdout.isatty() else table, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    with atomic_file(out) as partial:
        if out.suffix == ".csv":
            csv.write_csv(table, partial)
        else:
            pq.write_table(table, partial)


def _shown(table: pa.Table) -> pa.Table:
    """Return a table whose text is safe to print on a terminal."""
    for place, name in enumerate(("user", "item")):
        if is_text(table[name].type):
            ids = [printable(one) for one in table[name].to_pylist()]
            table = table.set_column(place, name, pa.array(ids, pa.large_string()))
    return table
