"""Reads columns of a Parquet file, chunk by chunk."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyarrow as pa

from dmf_fast.data.arrow_table import record_batches
from dmf_fast.data.arrow_types import is_text
from dmf_fast.data.bad_rows import BadRowCollector
from dmf_fast.data.chunks import ROWS_A_CHUNK, Chunk
from dmf_fast.data.column_choice import choose_columns
from dmf_fast.data.options import ReadOptions
from dmf_fast.data.sources import RatingsFile, check_expansion

_LEAST_BYTES_A_ROW = 12
"""Memory of an entry after reading."""
_WHOLE = re.compile(r"-?\d{1,18}")


def parquet_chunks(
    file: RatingsFile, options: ReadOptions, count: int, bad_rows: BadRowCollector
) -> Iterator[Chunk]:
    """Yield ``count`` columns (row ids, column ids, values, times) of a Parquet file.

    Columns that are only named by folders, as written by Hive (``day=2/part-0.parquet``), are included.
    """
    import pyarrow.parquet as pq  # here, as it is slow to import

    plain = file.on_disk()
    with pq.ParquetFile(plain.path) as parquet:
        metadata, schema = parquet.metadata, parquet.schema_arrow
    groups = (metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    expanded = max(metadata.num_rows * _LEAST_BYTES_A_ROW, sum(groups))
    check_expansion(file, expanded, plain.path.stat().st_size)
    # As dictionaries, which hold a repeated text once.
    text = [field.name for field in schema if is_text(field.type)]
    # Without pre-buffering, which would keep every row group that has been read.
    with pq.ParquetFile(plain.path, metadata=metadata, read_dictionary=text, pre_buffer=False) as parquet:
        inside = schema.names
        outside = {key: value for key, value in file.partitions if key not in inside}
        names = [*inside, *outside]
        chosen = choose_columns(str(file), names, len(names), options.columns, count)
        wanted = sorted({names[position] for position in chosen} & set(inside))

        def column(batch: pa.RecordBatch, position: int) -> pa.Array:
            name = names[position]
            if position >= len(inside):
                return pa.repeat(_typed(outside[name]), len(batch))
            # Pyarrow selects columns by name: all columns of that name, in order.
            return batch.column(batch.schema.get_all_field_indices(name)[inside[:position].count(name)])

        batches = parquet.iter_batches(ROWS_A_CHUNK, columns=wanted)
        chosen_columns = (
            pa.record_batch([column(batch, k) for k in chosen], names=[names[k] for k in chosen])
            for batch in batches
        )
        yield from record_batches(str(file), chosen_columns, options, bad_rows)


def _typed(value: str) -> pa.Scalar:
    """Return the value in the name of a folder, as an integer if it is one."""
    if value == "__HIVE_DEFAULT_PARTITION__":
        return pa.scalar(None, pa.int64())
    return pa.scalar(value).cast(pa.int64() if _WHOLE.fullmatch(value) else pa.string())
