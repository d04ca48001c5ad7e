"""Converts times in any form to whole seconds; integers are kept."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dmf_fast.data.arrow_types import is_text

_INTEGER = re.compile(r"[+-]?\d+")
_ZONE = re.compile(r".*(Z|[+-]\d\d:?\d\d)")
_FORMS = (
    (r"^[+-]?\d{1,18}$", pa.int64()),
    (r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$", pa.float64()),
    (r"^\d{4}-\d\d-\d\d.+(Z|[+-]\d\d:?\d\d)$", pa.timestamp("us", "UTC")),
    (r"^\d{4}-\d\d-\d\d", pa.timestamp("us")),
)
_BEYOND_INT64 = 2.0**63
_FIRST_MILLISECOND = 3 * 10**11  # 1979 in milliseconds; beyond the year 9999 in seconds


def time_type(cell: str) -> pa.DataType:
    """Return the type of times, judging by one of them: a number, a date or an ISO 8601 time."""
    if _INTEGER.fullmatch(cell):
        return pa.int64()
    try:
        float(cell)
    except ValueError:
        # A date alone, such as 2005-09-06, has no zone.
        return pa.timestamp("us", "UTC" if len(cell) > 10 and _ZONE.fullmatch(cell) else None)
    return pa.float64()


def to_seconds(times: pa.Array) -> pa.Array:
    """Return int64 seconds since 1970 (UTC unless a zone is given).

    Invalid times become missing. Integers are kept, and fractions are rounded down. Raises
    `pyarrow.ArrowException` if the type is not one of times.
    """
    kind = times.type
    if is_text(kind):
        return text_to_seconds(times)[0]
    if pa.types.is_floating(kind):
        fits = pc.less(pc.abs(times), _BEYOND_INT64)  # also false for NaN
        return pc.floor(pc.if_else(fits, times, None)).cast(pa.int64())
    if pa.types.is_timestamp(kind):
        return (
            pc.floor_temporal(times, unit="second")
            .cast(pa.timestamp("s", kind.tz), safe=False)
            .cast(pa.int64())
        )
    if pa.types.is_date(kind):
        return times.cast(pa.timestamp("s")).cast(pa.int64())
    return times.cast(pa.int64())


def text_to_seconds(times: pa.Array) -> tuple[pa.Array, NDArray[np.bool_]]:
    """Return seconds of text in any form, missing where it is not a time, and a mask of these places."""
    trimmed = pc.utf8_trim_whitespace(times)
    seconds = pa.nulls(len(times), pa.int64())
    for form, kind in _FORMS:
        found = pc.and_(pc.match_substring_regex(trimmed, form), seconds.is_null())
        if pc.any(found).as_py():
            seconds = pc.replace_with_mask(
                seconds, pc.fill_null(found, False), _converted(trimmed.filter(found), kind)
            )
    wrong = pc.and_(seconds.is_null(), pc.invert(times.is_null()))
    return seconds, wrong.to_numpy(zero_copy_only=False)


def warn_of_mixed_units(times: NDArray[np.int64]) -> None:
    """Warn if some times seem to be seconds and others milliseconds or finer."""
    if (
        len(times)
        and times.max() >= _FIRST_MILLISECOND
        and ((times > 0) & (times < _FIRST_MILLISECOND)).any()
    ):
        warnings.warn(
            f"some times seem to be in seconds and others in milliseconds, such as {times.max()}, so their "
            "order is wrong; convert all to one unit.",
            UserWarning,
            stacklevel=2,
        )


def _converted(cells: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return text of one form as seconds, missing where a cell is not a time."""
    try:
        return to_seconds(cells.cast(kind))
    except pa.ArrowException:
        if len(cells) == 1:
            return pa.nulls(1, pa.int64())
    half = len(cells) // 2
    return pa.concat_arrays([_converted(cells[:half], kind), _converted(cells[half:], kind)])
