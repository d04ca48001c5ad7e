"""Columns of raw ids of any hashable type, and their indices in a map."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dmf_fast.data.arrow_types import is_text
from dmf_fast.data.raw_ids import as_list, id_array, written

SIDES = ("row", "column")


def read_ids(argument: str, kind: str, ids: Any) -> Any:
    """Return a column of ids as an Arrow array of int64 or text, or as a list of other objects.

    `dmf_fast.data.raw_ids` decides which ids are integers and which are text.

    Args:
        argument: name of the argument in error messages, such as ``"X"``.
        kind: name of an id in error messages, such as ``"row id"``.
        ids: a NumPy, pandas, Polars or Arrow column, or a list, shape ``(n,)``.

    Raises:
        ValueError: an id is missing or not finite.
        TypeError: an id is not hashable.

    Example:
        >>> read_ids("X", "row id", [3.0, 7.0]).to_pylist(), read_ids("X", "row id", [(1, 2), "a"])
        ([3, 7], [(1, 2), 'a'])

    """
    array = id_array(ids)
    if array is None:
        return _objects(argument, kind, ids)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    is_missing = array.is_null()
    if is_text(array.type):
        is_missing = pc.or_(is_missing, pc.fill_null(pc.equal(array, ""), True))
    if pc.any(is_missing).as_py():
        place = is_missing.index(True).as_py()
        _refuse_missing(argument, kind, place, as_list(ids[place : place + 1])[0])
    return array


def id_at(ids: Any, place: int) -> Any:
    """Return an id of a column of `read_ids` as a Python object."""
    return ids[place].as_py() if isinstance(ids, pa.Array) else ids[place]


def select(ids: Any, kept: NDArray[np.bool_]) -> Any:
    """Return the ids where ``kept`` is True."""
    if isinstance(ids, pa.Array):
        return ids.filter(pa.array(kept))
    return [key for key, keep in zip(ids, kept, strict=True) if keep]


def _objects(argument: str, kind: str, ids: Any) -> list[Any]:
    keys = as_list(ids)
    try:
        for place, key in enumerate(keys):
            hash(key)
            if key is None or key != key or written(key) == "" or _is_infinite(key):
                _refuse_missing(argument, kind, place, key)
    except TypeError as error:
        raise TypeError(f"`{argument}` must hold hashable ids, got the {kind} {key!r}: {error}") from None
    return keys


def _refuse_missing(argument: str, kind: str, place: int, key: Any) -> None:
    if _is_infinite(key):
        raise ValueError(
            f"`{argument}` must hold finite ids, got the {kind} {key} in {argument}[{place}] (infinity)"
        )
    if isinstance(key, str):
        raise ValueError(
            f"`{argument}` must hold no missing {kind}, got the blank text {key!r} in {argument}[{place}]"
        )
    raise ValueError(
        f"`{argument}` must hold no missing {kind}, got None or NaN in {argument}[{place}]; drop it"
    )


def _is_infinite(key: Any) -> bool:
    return isinstance(key, Real) and math.isinf(key)
