"""Record batches, whose columns are typed, as chunks of ratings: from Parquet files and tables in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from dmf_fast.data.arrow_types import decoded, decoded_type, is_number
from dmf_fast.data.bad_rows import BadRowCollector
from dmf_fast.data.chunks import Chunk, NumberedPlace, clean_chunk
from dmf_fast.data.column_choice import ROLES
from dmf_fast.data.errors import DataError
from dmf_fast.data.options import ReadOptions
from dmf_fast.data.raw_ids import ids_of
from dmf_fast.data.times import to_seconds


def record_batches(
    name: str,
    chunks: Iterable[pa.RecordBatch],
    options: ReadOptions,
    bad_rows: BadRowCollector,
) -> Iterator[Chunk]:
    """Yield record batches of row ids, column ids, values and times as chunks; errors mention ``name``."""
    rows_before = 0
    for chunk in chunks:
        arrays = [
            _typed(name, array, column, role)
            for role, (column, array) in enumerate(zip(chunk.schema.names, chunk.columns, strict=True))
        ]
        place = NumberedPlace(name, "row", rows_before)
        yield clean_chunk(arrays, place, bad_rows, dtype=options.dtype)
        rows_before += len(chunk)


def resized(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the same rows in batches of at most ``rows``: large ones are cut, small ones are joined.

    >>> batch = pa.record_batch({"user": [1, 2, 3]})
    >>> [len(part) for part in resized([batch, batch], 2)]
    [2, 1, 2, 1]
    """
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        for start in range(0, len(batch), rows):
            part = batch.slice(start, rows)
            if count + len(part) > rows:
                yield _joined(waiting)
                waiting, count = [], 0
            waiting.append(part)
            count += len(part)
    if waiting:
        yield _joined(waiting)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Return batches as one, whose columns are `decoded`; a single batch is unchanged."""
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches)
    columns = [decoded(column).combine_chunks() for column in table.columns]
    return pa.record_batch(columns, names=table.column_names)


def _typed(name: str, array: pa.Array, column: str, role: int) -> pa.Array:
    """Return ids as int64 or text, values as float64 and times as int64."""
    try:
        if role < 2:
            expected = "numbers or text"
            return ids_of(array)
        if role == 3:
            expected = "seconds, dates or times"
            return to_seconds(decoded(array))
        expected = "numbers"
        kind = decoded_type(array.type)
        if not is_number(kind):
            raise pa.ArrowInvalid(f"it holds {kind}")
        return decoded(array).cast(pa.float64())
    except pa.ArrowException as error:
        raise DataError(
            f"{name}: the column {column!r} was taken as {ROLES[role]}, where {expected} were expected, "
            f"but {error}; convert it or pass --columns"
        ) from error
