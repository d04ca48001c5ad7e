"""Reads columns of a Parquet file, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pyarrow as pa

from dmf_fast.data.arrow_table import record_batches
from dmf_fast.data.bad_rows import BadRowCollector
from dmf_fast.data.chunks import ROWS_A_CHUNK, Chunk
from dmf_fast.data.column_choice import choose_columns
from dmf_fast.data.errors import DataError
from dmf_fast.data.options import ReadOptions
from dmf_fast.data.sources import RatingsFile


def parquet_batches(
    file: RatingsFile, options: ReadOptions, count: int, bad_rows: BadRowCollector
) -> Iterator[Chunk]:
    """Yield ``count`` columns (row ids, column ids, values, times) of a Parquet file."""
    import pyarrow.parquet as pq  # here, as it is slow to import

    try:
        with _readable(file) as readable, pq.ParquetFile(readable) as parquet:
            names = parquet.schema_arrow.names
            chosen = choose_columns(str(file), names, len(names), options.columns, count)
            columns = [names[position] for position in chosen]
            chunks = parquet.iter_batches(ROWS_A_CHUNK, columns=columns)
            yield from record_batches(str(file), chunks, columns, options, bad_rows)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} is not a whole Parquet file ({error}); write it again") from error


def _readable(file: RatingsFile) -> AbstractContextManager[Any]:
    """Return the path of a file, which Arrow maps, or an open member of an archive."""
    return nullcontext(file.path) if file.member is None else file.opened()
