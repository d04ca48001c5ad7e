"""Reads columns of a Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dmf_fast.data.errors import DataError
from dmf_fast.data.raw_columns import ROLES, RawColumns, choose_columns


def read_parquet_table(path: Path, *, columns: Sequence[str] | None, count: int) -> RawColumns:
    """Return ``count`` columns (row ids, column ids and, for 3, values) of the Parquet file at ``path``."""
    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        positions = choose_columns(path, names, len(names), columns, count)
        table = file.read(columns=[names[position] for position in positions])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a whole Parquet file ({error}); write it again.") from error
    arrays = [
        _cast(path, table.column(names[position]), names[position], role)
        for role, position in enumerate(positions)
    ]
    return RawColumns(arrays, lambda entry: f"row {entry + 1}")


def _cast(path: Path, array: pa.ChunkedArray, name: str, role: int) -> pa.ChunkedArray:
    """Return ids as int64 or text and values as float64."""
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if role == 2:
        expected, wanted = "numbers", pa.float64()
        fits = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    else:
        expected = "integers that fit 64 bits, or text"
        wanted = pa.int64() if pa.types.is_integer(kind) else pa.large_string()
        fits = pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
    try:
        if not fits:
            raise pa.ArrowInvalid(f"it holds {kind}")
        return array.cast(kind).cast(wanted)
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: the column {name!r} was taken as {ROLES[role]}, where {expected} were expected, "
            f"but {error}; convert it or say --columns."
        ) from error
