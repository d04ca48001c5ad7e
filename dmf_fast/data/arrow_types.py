"""Types of Arrow arrays, regardless of their encoding."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def is_text(kind: pa.DataType) -> bool:
    """Return whether values of this type are text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_number(kind: pa.DataType) -> bool:
    """Return whether values of this type are real numbers, other than booleans."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def decoded_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values, also if they are dictionary-encoded."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def decoded(array: Any) -> Any:
    """Return an array or a chunked array without a dictionary, and text as large_string.

    Thus arrays of any size can be concatenated: dictionaries may have codes of 8 bits, and a string array
    holds at most 2 GiB.

    >>> decoded(pa.array(["a", "a"]).dictionary_encode()).type
    DataType(large_string)
    """
    array = without_views(array)
    kind = decoded_type(array.type)
    return array.cast(pa.large_string() if is_text(kind) else kind)


def without_views(array: Any) -> Any:
    """Return text views, dictionary-encoded or not, as large_string: few kernels of Arrow take views."""
    kind = array.type
    if not pa.types.is_string_view(decoded_type(kind)):
        return array
    if pa.types.is_dictionary(kind):
        return array.cast(pa.dictionary(kind.index_type, pa.large_string(), kind.ordered))
    return array.cast(pa.large_string())
