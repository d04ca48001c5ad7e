"""Times of any form to whole seconds; integers stay as they are."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dmf_fast.data.arrow_types import is_text

_INTEGER = re.compile(r"[+-]?\d+")
_ZONE = re.compile(r".*(Z|[+-]\d\d:?\d\d)")


def time_type(cell: str) -> pa.DataType:
    """Return the type to read times as, judged by one of them: a number, a date or an ISO 8601 time."""
    if _INTEGER.fullmatch(cell):
        return pa.int64()
    try:
        float(cell)
    except ValueError:
        # A date alone, such as 2005-09-06, has no zone.
        return pa.timestamp("us", "UTC" if len(cell) > 10 and _ZONE.fullmatch(cell) else None)
    return pa.float64()


def to_seconds(times: pa.Array) -> pa.Array:
    """Return int64 seconds since 1970 (UTC where no zone is given), missing where ``times`` are.

    Raises `pyarrow.ArrowException` where the type is not one of times.
    """
    kind = times.type
    if is_text(kind):
        first = next((cell.as_py() for cell in times if cell.is_valid), "0")
        return to_seconds(times.cast(time_type(first)))
    if pa.types.is_floating(kind):
        return pc.floor(times).cast(pa.int64())
    if pa.types.is_timestamp(kind):
        return times.cast(pa.timestamp("s", kind.tz), safe=False).cast(pa.int64())
    if pa.types.is_date(kind):
        return times.cast(pa.timestamp("s")).cast(pa.int64())
    return times.cast(pa.int64())


def text_to_seconds(times: pa.Array) -> tuple[pa.Array, NDArray[np.bool_]]:
    """Return seconds of text, missing where it is no time, and where that is."""
    trimmed = pc.utf8_trim_whitespace(times)
    integer = pc.match_substring_regex(trimmed, r"^[+-]?\d{1,18}$")
    # Only lines of a block with a bad one come here, so that a loop over the others is short.
    seconds = [_seconds(cell) for cell in pc.if_else(integer, None, trimmed).to_pylist()]
    whole = pc.coalesce(pc.if_else(integer, trimmed, None).cast(pa.int64()), pa.array(seconds, pa.int64()))
    wrong = pc.and_(whole.is_null(), pc.invert(times.is_null()))
    return whole, wrong.to_numpy(zero_copy_only=False)


def _seconds(cell: str | None) -> int | None:
    if not cell:
        return None
    try:
        seconds: int = to_seconds(pa.array([cell]).cast(time_type(cell)))[0].as_py()
    except (pa.ArrowException, OverflowError):
        return None
    return seconds
