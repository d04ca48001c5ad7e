"""Maps of ids other than integers and text: tuples, floats, dates, or a mixture."""

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

    The ids are sorted if they can be compared, and otherwise in the order in which they first occur. Numbers
    and text that are written alike are the same id, as in an `IdMap`.

    Args:
        ids: hashable objects, shape ``(len,)``. Repeated ids count once.

    Raises:
        TypeError: an id is not hashable.

    Example:
        >>> ObjectIdMap([(2, "b"), (1, "a")]).ids.tolist()
        [(1, 'a'), (2, 'b')]

    """

    def __init__(self, ids: Iterable[Hashable]) -> None:
        first_of: dict[Any, Hashable] = {}
        for key in ids:
            first_of.setdefault(written(key), key)
        distinct: list[Any] = list(first_of.values())
        # Ids that cannot be compared keep their order.
        with contextlib.suppress(TypeError):
            distinct = sorted(distinct)
        self._ids = _object_array(distinct)
        self._positions = {written(key): position for position, key in enumerate(distinct)}

    @property
    def holds_text(self) -> bool:
        """Always False: text ids make an `IdMap`."""
        return False

    def __repr__(self) -> str:
        return f"ObjectIdMap({len(self)} ids)"

    def indices(self, ids: Any) -> NDArray[np.int64]:
        """Return the index of every id, or -1 for ids that are not in the map.

        Args:
            ids: hashable objects, shape ``(len,)``.

        Returns:
            int64, shape ``(len,)``.

        Raises:
            TypeError: an id is not hashable.

        Example:
            >>> ObjectIdMap([(2, "b"), (1, "a")]).indices([(2, "b"), "a"]).tolist()
            [1, -1]

        """
        return np.array([self._positions.get(written(key), -1) for key in as_list(ids)], dtype=np.int64)

    def save(self, path: str | Path) -> None:
        """Raise a `DataError`: a file holds integers and text only."""
        examples = ", ".join(repr(key) for key in self._ids[:3])
        raise DataError(
            f"{path} can only hold ids that are integers or text, got others ({examples}); convert them to "
            "text, for example with str"
        )


def id_map_of(ids: Any) -> IdMap:
    """Return the map of ids of any hashable type: an `IdMap` if all are integers or all are text.

    Args:
        ids: shape ``(len,)``: an array, a column of a data frame or a list.

    Raises:
        TypeError: an id is not hashable.
        ValueError: integers or text are missing.

    Example:
        >>> id_map_of([3, 1]), id_map_of([3, "a"])
        (IdMap(2 ids of int64), ObjectIdMap(2 ids))

    """
    array = id_array(ids)
    return ObjectIdMap(as_list(ids)) if array is None else IdMap(array)


def _object_array(ids: list[Any]) -> NDArray[np.object_]:
    array = np.empty(len(ids), dtype=np.object_)  # np.array would make rows of tuples
    for position, key in enumerate(ids):
        array[position] = key
    return array
