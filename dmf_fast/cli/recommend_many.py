"""Recommendations to many users, block by block into a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from dmf_fast.data import DataError
from dmf_fast.files.atomic import atomic_file
from dmf_fast.serving import recommend
from dmf_fast.serving.trained_folder import TrainedFolder

USERS_AT_ONCE = 1 << 14


def read_users(path: Path) -> Any:
    """Return the ids of a text file, one a line, as an array of text; a `DataError` says what is wrong."""
    try:
        lines = pa.array(path.read_text(encoding="utf-8").splitlines(), pa.large_string())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); name a text file, an id a line.") from error
    users = pc.utf8_trim_whitespace(lines)
    users = users.filter(pc.not_equal(users, ""))
    if not len(users):
        raise DataError(f"{path} holds no ids; write one a line.")
    return users


def write_recommendations(
    trained: TrainedFolder, users: Any, count: int, out: Path, *, with_seen: bool = False
) -> None:
    """Write the best columns of every user into a CSV or Parquet file, which appears when it is whole.

    Columns: ``row``, ``rank`` from 1, ``column``, ``prediction`` and ``known``, which is False for a user
    that the model does not know: the columns are then those of the highest bias. Memory is that of one block.

    Args:
        trained: the model.
        users: ids of rows, an array of pyarrow; those that the model does not know are allowed.
        count: how many columns for each.
        out: ``.csv`` or ``.parquet``.
        with_seen: whether columns are recommended that a row has been trained with.

    Raises:
        DataError, OSError: the folder is damaged, the file cannot be written.

    """
    count = min(count, len(trained.column_ids))
    with atomic_file(out) as partial, _writer(partial, out.suffix, trained, users) as writer:
        for start in range(0, len(users), USERS_AT_ONCE):
            block = users[start : start + USERS_AT_ONCE]
            writer.write_table(_recommended(trained, block, count, with_seen=with_seen))


def _recommended(trained: TrainedFolder, users: Any, count: int, *, with_seen: bool) -> pa.Table:
    rows = trained.row_ids.indices(users)
    best = recommend(trained.two_factors, rows, count, seen=None if with_seen else trained.seen)
    user, rank = np.nonzero(best.columns.numpy() >= 0)
    # In the order of the scores before they are clipped, so that the best are not one tie.
    predictions = trained.predictor.clipped(best.scores.double().numpy()[user, rank])
    columns = {
        "row": users.take(user),
        "rank": rank.astype(np.int32) + 1,
        "column": trained.column_ids.ids_at(best.columns.numpy()[user, rank]),
        "prediction": predictions,
        "known": best.known.numpy()[user],
    }
    return pa.table(columns, schema=_schema(trained, users))


def _schema(trained: TrainedFolder, users: Any) -> pa.Schema:
    return pa.schema(
        {
            "row": users.type,
            "rank": pa.int32(),
            "column": trained.column_ids.ids.type,
            "prediction": pa.float64(),
            "known": pa.bool_(),
        }
    )


@contextmanager
def _writer(partial: Path, suffix: str, trained: TrainedFolder, users: Any) -> Iterator[Any]:
    make = csv.CSVWriter if suffix == ".csv" else pq.ParquetWriter
    with make(str(partial), _schema(trained, users)) as writer:
        yield writer
