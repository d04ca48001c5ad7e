"""Types of Arrow arrays, whatever they are encoded as."""

from __future__ import annotations

import pyarrow as pa


def is_text(kind: pa.DataType) -> bool:
    """Return whether values of this type are text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def decoded_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values themselves where they are dictionary-encoded."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind
