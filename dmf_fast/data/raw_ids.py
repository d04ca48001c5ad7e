"""The rules of ids: which are integers, which are text, and which are the same id.

They hold for text tables, Parquet, Arrow and Python alike:

- White space around an id is ignored, and so is a byte order mark.
- An integer is written in decimal digits without leading zeros or a plus sign, possibly followed by a decimal
  point and zeros. So ``7``, ``" 7 "``, ``7.0`` and the 7.0 of a float64 column, into which pandas converts
  integers with gaps, are one id. Everything else is text: ``007``, ``+7``, ``1e3``, ``0x1F``, ``nan`` and
  ``2.5``.
- A column holds integers if each of its ids is an integer that fits in 64 bits. Otherwise it holds text, and
  7 becomes ``"7"``. Columns of type text stay text. Either way, an id is found regardless of how it is
  written.
- None, NaN, infinity and blank text are missing, and a row with a missing id is bad.

In Python, ids may be of any hashable type; mixed ids, and ids other than numbers and text, stay objects.
"""

from __future__ import annotations

import math
import re
import warnings
from decimal import Decimal
from numbers import Integral
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dmf_fast.data.arrow_types import decoded, decoded_type, is_text, without_views

_MARK = "\ufeff"
_WITH_ZEROS = r"^(-?0|-?[1-9][0-9]*)\.0*$"
_WHOLE = r"^(0|-?[1-9][0-9]*)$"
_WITH_ZEROS_IN_PYTHON = re.compile(_WITH_ZEROS)
_FIRST_INEXACT = 2.0**53
_LONGEST_WHOLE = 4000  # digits; Python refuses to write much longer integers


def id_array(ids: Any) -> Any:
    """Return ids as int64 or large_string, or None where they are neither integers that fit nor text.

    ``ids``: a pyarrow, NumPy, pandas or polars array, or a sequence; missing ones stay missing, blank text
    becomes empty.

    >>> id_array([7.0, None, 9.0]).to_pylist(), id_array([" ann", "7.0"]).to_pylist(), id_array([2.5])
    ([7, None, 9], ['ann', '7'], None)
    """
    if not isinstance(ids, (pa.Array, pa.ChunkedArray)):
        try:
            ids = pa.array(ids, from_pandas=True)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            return None
    if is_text(decoded_type(ids.type)):
        text = decoded(ids)
        return _written(text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text)
    try:
        kept = ids_of(ids)
    except pa.ArrowException:
        return None
    return None if pa.types.is_dictionary(kept.type) else kept


def ids_of(array: Any) -> Any:
    """Return numbers or text of Arrow as int64 or as a dictionary of large_string, by the rules of ids.

    Raises `pyarrow.ArrowInvalid` for other types.
    """
    array = without_views(array)
    kind = decoded_type(array.type)
    if pa.types.is_integer(kind) or pa.types.is_null(kind):
        try:
            return array.cast(pa.int64())
        except pa.ArrowInvalid:  # unsigned, beyond int64
            return text_ids(array.cast(kind).cast(pa.large_string()))
    if pa.types.is_floating(kind):
        return _of_floats(array.cast(kind))
    if pa.types.is_decimal(kind):
        text = text_ids(array.cast(kind).cast(pa.large_string()))
        numbers, others = whole_numbers(text)
        return text if others.any() else numbers
    if is_text(kind):
        return text_ids(array)
    raise pa.ArrowInvalid(f"it holds {kind}")


def text_ids(text: Any) -> pa.DictionaryArray:
    """Return text as ids: trimmed, integers without a fraction, blank text as missing."""
    encoded = _encoded(text)
    distinct = _written(encoded.dictionary)
    if distinct.equals(encoded.dictionary) and not pc.any(pc.equal(distinct, "")).as_py():
        return encoded
    codes = pa.array(np.arange(len(distinct), dtype=np.int32), mask=_true(pc.equal(distinct, "")))
    return pa.DictionaryArray.from_arrays(codes.take(encoded.indices), distinct)


def whole_numbers(ids: pa.DictionaryArray) -> tuple[pa.Array, NDArray[np.bool_]]:
    """Return the `text_ids` that are 64-bit integers as int64, and a mask of the others.

    The others are missing in the array.
    """
    distinct = ids.dictionary
    whole = _true(pc.match_substring_regex(distinct, _WHOLE)) & _true(
        pc.less_equal(pc.utf8_length(distinct), 20)
    )
    for place in np.flatnonzero(whole & _true(pc.greater(pc.utf8_length(distinct), 18))):
        whole[place] = -(2**63) <= int(distinct[int(place)].as_py()) < 2**63
    numbers = pc.if_else(pa.array(whole), distinct, None).cast(pa.int64()).take(ids.indices)
    return numbers, _true(numbers.is_null()) & ~_true(ids.is_null())


def written(key: Any) -> Any:
    """Return the same value for equal ids: the written form of a number or text, otherwise the id itself.

    >>> written(7), written(7.0), written(" 7.0"), written((1, 2))
    ('7', '7', '7', (1, 2))
    """
    if isinstance(key, str):
        text = key.strip().strip(_MARK).strip()
        found = _WITH_ZEROS_IN_PYTHON.fullmatch(text)
        text = found[1] if found else text
        return "0" if text == "-0" else text
    if isinstance(key, (bool, np.bool_)):
        return bool, bool(key)  # equal to 0 and 1 in Python
    if isinstance(key, Integral):
        return str(int(key)) if int(key).bit_length() < 3 * _LONGEST_WHOLE else int(key)
    if isinstance(key, (float, np.floating)):
        return str(int(key)) if math.isfinite(key) and key == int(key) else str(key)
    if isinstance(key, Decimal) and key.is_finite() and key.adjusted() < _LONGEST_WHOLE:
        return str(int(key)) if key == int(key) else str(key)
    return key


def as_list(ids: Any) -> list[Any]:
    """Return the ids as Python objects, never as Arrow scalars."""
    for name in ("to_pylist", "tolist", "to_list"):
        if hasattr(ids, name):
            objects: list[Any] = getattr(ids, name)()
            return objects
    return [key.as_py() if isinstance(key, pa.Scalar) else key for key in ids]


def _encoded(text: Any) -> pa.DictionaryArray:
    """Return text as a dictionary of the values that occur; encoded text is not decoded."""
    if isinstance(text, pa.ChunkedArray):
        text = text.cast(pa.large_string()).combine_chunks()
    if not pa.types.is_dictionary(text.type) or text.dictionary.null_count:
        return text.cast(pa.large_string()).dictionary_encode()
    missing = ~_true(text.is_valid())
    indices = pc.fill_null(text.indices, 0).to_numpy(zero_copy_only=False)
    used = np.zeros(
        len(text.dictionary) + 1, dtype=np.bool_
    )  # one more, as missing ids have index 0 and the dictionary may be empty
    used[indices[~missing]] = True
    codes = pa.array((np.cumsum(used) - 1)[indices].astype(np.int32), mask=missing)
    distinct = text.dictionary.filter(pa.array(used[:-1])).cast(pa.large_string())
    return pa.DictionaryArray.from_arrays(codes, distinct)


def _of_floats(floats: Any) -> Any:
    if isinstance(floats, pa.ChunkedArray):
        floats = floats.combine_chunks()
    numbers = floats.to_numpy(zero_copy_only=False)
    there = np.isfinite(numbers) & ~_true(floats.is_null())
    kept = np.where(there, numbers, numbers.dtype.type(0))
    largest = float(np.abs(kept).max(initial=0))
    if (kept == np.rint(kept)).all() and largest < 2.0**63:
        if largest >= _FIRST_INEXACT and numbers.dtype == np.float64:
            warnings.warn(
                "floating-point ids are rounded from 2^53 on, such as "
                f"{kept[np.abs(kept).argmax()]:.0f}, so different ids may have become the same; pass "
                "them as integers or text.",
                UserWarning,
                stacklevel=2,
            )
        return pa.array(kept.astype(np.int64), mask=~there)
    distinct, codes = np.unique(kept, return_inverse=True)
    text = pa.array([written(number) for number in distinct], pa.large_string())
    return text_ids(pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=~there), text))


def _written(text: pa.Array) -> pa.Array:
    """Return the written form of text, as `written` does."""
    trimmed = pc.utf8_trim_whitespace(pc.utf8_trim(pc.utf8_trim_whitespace(text), characters=_MARK))
    perhaps = pc.or_(pc.ends_with(trimmed, "0"), pc.ends_with(trimmed, "."))
    if pc.any(perhaps).as_py():
        some = pc.replace_substring_regex(trimmed.filter(perhaps), _WITH_ZEROS, r"\1")
        some = pc.if_else(pc.equal(some, "-0"), "0", some)
        trimmed = pc.replace_with_mask(trimmed, pc.fill_null(perhaps, False), some)
    return trimmed


def _true(condition: Any) -> NDArray[np.bool_]:
    """Return where ``condition`` is true and not missing."""
    found: NDArray[np.bool_] = pc.fill_null(condition, False).to_numpy(zero_copy_only=False)
    return found
