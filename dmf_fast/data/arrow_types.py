"""Ids of any array as the two types that they have inside: int64 and large_string."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def is_text(kind: pa.DataType) -> bool:
    """Return whether values of this type are text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_id_type(kind: pa.DataType) -> bool:
    """Return whether values of this type are integers or text."""
    return bool(pa.types.is_integer(kind)) or is_text(kind)


def decoded_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values themselves where they are dictionary-encoded."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def id_array(ids: Any) -> Any:
    """Return ids as int64 or large_string, or None where they are neither integers that fit nor text.

    ``ids``: a pyarrow, NumPy, pandas or polars array, or a sequence; missing ones stay missing.
    """
    if not isinstance(ids, (pa.Array, pa.ChunkedArray)):
        try:
            ids = pa.array(ids, from_pandas=True)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            return None
    kind = decoded_type(ids.type)
    if len(ids) == ids.null_count and pa.types.is_null(kind):
        return ids.cast(pa.int64())
    if not is_id_type(kind):
        return None
    try:
        return ids.cast(kind).cast(pa.large_string() if is_text(kind) else pa.int64())
    except pa.ArrowInvalid:
        return None
