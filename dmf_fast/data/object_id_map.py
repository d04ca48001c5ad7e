"""Maps of ids that are neither integers nor text: tuples, floats, dates, or a mixture."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmf_fast.data.errors import DataError
from dmf_fast.data.id_map import IdMap
from dmf_fast.data.raw_ids import as_list, id_array, written


class ObjectIdMap(IdMap):
    """A one-to-one map between hashable ids and the indices 0, 1, …, in memory only.

    The ids are kept sorted where they can be compared, else in the order in which they come first. Numbers
    and text among them are the same id where they are written alike, as in an `IdMap`.

    >>> ObjectIdMap([(2, "b"), (1, "a")]).ids.tolist()
    [(1, 'a'), (2, 'b')]
    """

    def __init__(self, ids: Iterable[Hashable]) -> None:
        """Build the map of the distinct ``ids``; one that is not hashable raises a `TypeError`."""
        first_of: dict[Any, Hashable] = {}
        for key in ids:
            first_of.setdefault(written(key), key)
        distinct: list[Any] = list(first_of.values())
        # What cannot be compared keeps its order.
        with contextlib.suppress(TypeError):
            distinct = sorted(distinct)
        self._ids = _object_array(distinct)
        self._positions = {written(key): position for position, key in enumerate(distinct)}

    @property
    def holds_text(self) -> bool:
        """Never: text has a map of its own."""
        return False

    def __repr__(self) -> str:
        return f"ObjectIdMap({len(self)} ids)"

    def indices(self, ids: Any) -> NDArray[np.int64]:
        """Return the index of every id, int64, with -1 for those the map does not know."""
        return np.array([self._positions.get(written(key), -1) for key in as_list(ids)], dtype=np.int64)

    def save(self, path: str | Path) -> None:
        """Refuse: a file holds integers and text only."""
        examples = ", ".join(repr(key) for key in self._ids[:3])
        raise DataError(
            f"{path} can hold ids that are integers or text, but these are others ({examples}); make "
            "them text first, as with str"
        )


def id_map_of(ids: Any) -> IdMap:
    """Return the map of ids of any hashable type: those of a file where they are integers or text.

    >>> id_map_of([3, 1]), id_map_of([3, "a"])
    (IdMap(2 ids of int64), ObjectIdMap(2 ids))
    """
    array = id_array(ids)
    return ObjectIdMap(as_list(ids)) if array is None else IdMap(array)


def _object_array(ids: list[Any]) -> NDArray[np.object_]:
    array = np.empty(len(ids), dtype=np.object_)  # np.array would take tuples for rows
    for position, key in enumerate(ids):
        array[position] = key
    return array
