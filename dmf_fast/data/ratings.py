"""Entries of a matrix by index, with maps from and to their ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from dmf_fast.checks import shortened
from dmf_fast.data.bad_rows import BadRows
from dmf_fast.data.chunks import Place
from dmf_fast.data.errors import DataError
from dmf_fast.data.id_map import IdMap
from dmf_fast.html import html_table
from dmf_fast.observations import Observations
from dmf_fast.observations.duplicates import Duplicates

_LONGEST_ID = 80  # in messages
_SHOWN = 10  # in notebooks
_FIRST_DATE, _LAST_DATE = -62_135_596_800, 253_402_300_799  # years 1 and 9999, in seconds
SomePairs = TypeVar("SomePairs", bound="Pairs")


@dataclass(frozen=True)
class Places:
    """Describes where entries come from, by the place of an entry within its chunk."""

    starts: Sequence[int] = ()
    chunks: Sequence[Place] = ()

    def __call__(self, entry: int) -> str:
        """Return a description such as ``"a.csv, line 7"``, or ``"entry 7"`` if no file is known."""
        if not self.starts:
            return f"entry {entry + 1}"
        chunk = int(np.searchsorted(self.starts, entry, side="right")) - 1
        return self.chunks[chunk](entry - self.starts[chunk])


@dataclass(frozen=True)
class _PlacesOfSelected:
    """Describes where the chosen ones of ``count`` entries come from."""

    place: Place
    chosen: NDArray[Any] | slice
    count: int

    def __call__(self, entry: int) -> str:
        return self.place(int(np.arange(self.count)[self.chosen][entry]))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of a row and a column, in the order in which they were read.

    Attributes:
        rows: int32, shape ``(len,)``: indices into ``row_ids``, or -1 for ids that the map lacks.
        columns: int32, shape ``(len,)``: indices into ``column_ids``, or -1.
        row_ids: `IdMap` of the rows.
        column_ids: `IdMap` of the columns.
        bad_rows: the rows that were skipped.
        place: function that describes where pair k comes from, such as ``"a.csv, line 7"``.

    """

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]
    row_ids: IdMap
    column_ids: IdMap
    bad_rows: BadRows = field(default=BadRows(), kw_only=True)
    place: Place = field(default=Places(), kw_only=True, repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} of shape {self.shape}, {self.bad_rows.count} bad rows)"

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of row ids and of column ids."""
        return len(self.row_ids), len(self.column_ids)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether both ids of a pair are known: bool, shape ``(len,)``."""
        known: NDArray[np.bool_] = (self.rows >= 0) & (self.columns >= 0)
        return known

    def pair_text(self, entry: int) -> str:
        """Return ``"(row id, column id)"`` of an entry with known ids, for messages."""
        row, column = self.row_ids.ids_at([self.rows[entry]]), self.column_ids.ids_at([self.columns[entry]])
        return f"({shortened(str(row[0]), _LONGEST_ID)}, {shortened(str(column[0]), _LONGEST_ID)})"

    def mapped_to(self: SomePairs, row_ids: IdMap, column_ids: IdMap) -> SomePairs:
        """Return the same entries by the indices of other maps, such as those of the training ratings.

        Ids that these maps lack get the index -1. Integers and text are compared by their written form.
        """
        return replace(
            self,
            rows=_remapped(self.rows, self.row_ids, row_ids),
            columns=_remapped(self.columns, self.column_ids, column_ids),
            row_ids=row_ids,
            column_ids=column_ids,
        )


@dataclass(frozen=True, eq=False, repr=False)
class Ratings(Pairs):
    """Pairs with their values and, if requested, times.

    Attributes:
        rows: int32, shape ``(len,)``: indices into ``row_ids``, or -1 for ids that the map lacks.
        columns: int32, shape ``(len,)``: indices into ``column_ids``, or -1.
        row_ids: `IdMap` of the rows.
        column_ids: `IdMap` of the columns.
        values: float32 or float64, finite, shape ``(len,)``.
        times: int64 seconds since 1970, shape ``(len,)``, or None.
        bad_rows: the rows that were skipped.
        place: function that describes where entry k comes from, such as ``"a.csv, line 7"``.

    """

    values: NDArray[np.float32] | NDArray[np.float64] = field(kw_only=True)
    times: NDArray[np.int64] | None = field(default=None, kw_only=True)

    def _repr_html_(self) -> str:
        first = slice(min(len(self), _SHOWN))
        columns = {
            "row": _ids_of(self.rows[first], self.row_ids),
            "column": _ids_of(self.columns[first], self.column_ids),
            "value": pa.array(self.values[first]),
        }
        if self.times is not None:
            columns["time"] = _dates(self.times[first])
        return html_table(pa.table(columns), f"{self!r}, the first {first.stop:,}")

    def select(self, entries: NDArray[Any] | slice) -> Ratings:
        """Return some of the entries, with the same maps.

        Args:
            entries: a mask of shape ``(len,)``, integer indices of any length, or a slice.

        Raises:
            IndexError: an index is out of range, or the mask has another length.

        Example:
            >>> from dmf_fast.data import as_ratings
            >>> ratings = as_ratings((["ann", "bob"], [7, 9], [4.5, 3.0]))
            >>> ratings.select(ratings.values > 4)
            Ratings(1 of shape (2, 2), 0 bad rows)

        """
        chosen = {name: getattr(self, name)[entries] for name in ("rows", "columns", "values")}
        times = None if self.times is None else self.times[entries]
        return replace(self, **chosen, times=times, place=_PlacesOfSelected(self.place, entries, len(self)))

    def observations(
        self, *, duplicates: Duplicates = "error", dtype: torch.dtype | None = None
    ) -> Observations:
        """Return the entries as `Observations` of ``shape``; all ids must be known.

        Args:
            duplicates: how to handle pairs that occur more than once: ``"error"``, ``"first"``,
                ``"last"``, ``"mean"`` or ``"sum"``.
            dtype: of the values; None for that of ``values``.

        Raises:
            DataError: a pair occurs more than once and ``duplicates`` is ``"error"``; the message names its
                ids and places.
            ValueError, IndexError: as for `Observations`, such as an unknown id.

        Example:
            >>> from dmf_fast.data import as_ratings
            >>> as_ratings((["ann", "bob"], [7, 9], [4.5, 3.0])).observations().shape
            (2, 2)

        """
        try:
            return Observations(
                self.rows, self.columns, self.values, self.shape, duplicates=duplicates, dtype=dtype
            )
        except ValueError as error:
            if duplicates == "error":
                self.refuse_duplicates(cause=error)
            raise

    def refuse_duplicates(self, cause: Exception | None = None) -> None:
        """Raise a `DataError` that names ids and places if a pair occurs more than once.

        `observations` does this itself; use this for ratings that are not trained on.
        """
        # Two indices below 2^31 make a key below 2^62.
        keys = self.rows.astype(np.int64) * self.shape[1] + self.columns
        in_order = np.sort(keys)
        if not (in_order[1:] == in_order[:-1]).any():
            return
        order = np.argsort(keys, kind="stable")
        second = int(order[1:][keys[order[1:]] == keys[order[:-1]]].min())
        first = int((keys == keys[second]).argmax())
        raise DataError(
            f"{self.place(second)}: the pair {self.pair_text(second)} already occurs at {self.place(first)}; "
            "remove one, or choose with --duplicates first, last, mean or sum"
        ) from cause


def _ids_of(indices: NDArray[np.int32], ids: IdMap) -> pa.Array:
    """Return the ids at indices, as text; null where the index is -1."""
    known = indices >= 0
    texts = np.full(len(indices), None, dtype=np.object_)
    texts[known] = [shortened(str(one), _LONGEST_ID) for one in ids.ids_at(indices[known])]
    return pa.array(texts, pa.string())


def _dates(times: NDArray[np.int64]) -> pa.Array:
    """Return seconds since 1970 as the text of dates; numbers outside the years 1 to 9999 stay numbers.

    Times in milliseconds are such numbers.
    """
    numbers = pa.array(times)
    is_date = pa.array((times >= _FIRST_DATE) & (times <= _LAST_DATE))
    dates = pc.if_else(is_date, numbers, 0).cast(pa.timestamp("s"))
    return pc.if_else(is_date, dates.cast(pa.string()), numbers.cast(pa.string()))


def _remapped(indices: NDArray[np.int32], ids: IdMap, others: IdMap) -> NDArray[np.int32]:
    """Return the index in ``others`` of every index into ``ids``; -1 stays -1."""
    if ids is others:
        return indices
    target = np.append(others.indices(ids.ids), -1).astype(np.int32)
    remapped: NDArray[np.int32] = target[indices]
    return remapped
