"""Columns of raw ids of any hashable type, and their indices in a map."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dmf_fast.data import IdMap, ObjectIdMap
from dmf_fast.data.arrow_types import id_array, is_id_type
from dmf_fast.data.object_id_map import as_list

SIDES = ("row", "column")


def read_ids(argument: str, kind: str, ids: Any) -> Any:
    """Return a column of ids as an arrow array of int64 or text, or as a list of other objects.

    Floating-point numbers that are all whole are integers, as in an array of mixed numbers.

    Args:
        argument: what errors call the argument that holds them, such as ``"X"``.
        kind: what errors call one of them, such as ``"row id"``.
        ids: a NumPy, pandas, polars or arrow column, or a list.

    Raises:
        ValueError: an id is missing or not finite.
        TypeError: an id is not hashable.

    Example:
        >>> read_ids("X", "row id", [3.0, 7.0]).to_pylist(), read_ids("X", "row id", [(1, 2), "a"])
        ([3, 7], [(1, 2), 'a'])

    """
    try:
        array = ids if isinstance(ids, pa.Array) else pa.array(ids, from_pandas=True)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return _objects(argument, kind, ids)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if array.null_count:
        _refuse_missing(argument, kind, int(np.argmax(array.is_null().to_numpy(zero_copy_only=False))))
    if pa.types.is_floating(array.type):
        return _whole_numbers(argument, kind, array, ids)
    encoded = is_id_type(array.type) or pa.types.is_dictionary(array.type)
    known = id_array(array) if encoded else None
    return _objects(argument, kind, ids) if known is None else known


def positions(ids: Any, id_map: IdMap) -> NDArray[np.int64]:
    """Return the index of every id of a column of `read_ids`, -1 where the map does not know it."""
    if isinstance(ids, pa.Array) or isinstance(id_map, ObjectIdMap):
        return id_map.indices(ids)
    return id_map.indices(pa.array([_as_text(key) for key in ids], pa.large_string()))


def id_at(ids: Any, place: int) -> Any:
    """Return one id of a column of `read_ids` as Python has it."""
    return ids[place].as_py() if isinstance(ids, pa.Array) else ids[place]


def select(ids: Any, kept: NDArray[np.bool_]) -> Any:
    """Return the ids of a mask."""
    if isinstance(ids, pa.Array):
        return ids.filter(pa.array(kept))
    return [key for key, keep in zip(ids, kept, strict=True) if keep]


def _whole_numbers(argument: str, kind: str, array: pa.Array, ids: Any) -> Any:
    numbers = array.to_numpy(zero_copy_only=False).astype(np.float64)
    if not np.isfinite(numbers).all():
        place = int((~np.isfinite(numbers)).argmax())
        raise ValueError(
            f"`{argument}` must hold finite ids, got the {kind} {numbers[place]} in {argument}[{place}] "
            "(infinity or NaN)"
        )
    if (numbers == np.rint(numbers)).all() and np.abs(numbers).max(initial=0.0) < 2**53:
        return pa.array(numbers.astype(np.int64))
    return _objects(argument, kind, ids)


def _objects(argument: str, kind: str, ids: Any) -> list[Any]:
    keys = as_list(ids)
    for place, key in enumerate(keys):
        if key is None or key != key:
            _refuse_missing(argument, kind, place)
    try:
        for key in keys:
            hash(key)
    except TypeError as error:
        raise TypeError(f"`{argument}` must hold hashable ids, got the {kind} {key!r}: {error}") from None
    return keys


def _refuse_missing(argument: str, kind: str, place: int) -> None:
    raise ValueError(f"`{argument}` must have every {kind}, got None or NaN in {argument}[{place}]; drop it")


def _as_text(key: Any) -> str | None:
    """Return how an integer or text is written, None for what a map of these cannot know."""
    if isinstance(key, (float, np.floating)) and key.is_integer():
        return str(int(key))
    return str(key) if isinstance(key, (Integral, str)) and not isinstance(key, bool) else None
