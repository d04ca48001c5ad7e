"""Chunks of ids, values and times, which every reader yields, and descriptions of where a row is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dmf_fast.data.arrow_types import decoded_type
from dmf_fast.data.bad_rows import BadRowCollector, Problem
from dmf_fast.data.column_choice import ROLES

ROWS_A_CHUNK = 1 << 20
Place = Callable[[int], str]


@dataclass(frozen=True)
class Chunk:
    """Consecutive entries of a file, none of them bad.

    ``row_ids`` and ``column_ids``: arrays of int64 or large_string, possibly dictionary-encoded without
    unused ids; ``values``: float64, or None for pairs; ``times``: int64, or None. ``place(k)`` describes
    where entry ``k`` is, such as ``"a.csv, line 7"``.
    """

    row_ids: pa.Array
    column_ids: pa.Array
    values: NDArray[np.float64] | None
    times: NDArray[np.int64] | None
    place: Place

    def __len__(self) -> int:
        return len(self.row_ids)


class TextIdsFound(BaseException):
    """Ids that were assumed to be integers are text: reading restarts, with ``role`` (0 or 1) as text.

    Like `GeneratorExit` it is not an error, so handlers of errors must not catch it.
    """

    def __init__(self, role: int) -> None:
        super().__init__(f"{ROLES[role]} ids are text")
        self.role = role


@dataclass(frozen=True)
class NumberedPlace:
    """Describes row k of a chunk by its number in the file, from 1: ``"a.parquet, row 7"``."""

    name: str
    unit: str
    rows_before: int

    def __call__(self, row: int) -> str:
        """Return the name of the file and the number of the row."""
        return f"{self.name}, {self.unit} {self.rows_before + row + 1}"


@dataclass(frozen=True)
class _PlaceOfKept:
    """Describes kept row k after the rows at the sorted positions ``skipped`` were removed."""

    place: Place
    skipped: NDArray[np.intp]

    def __call__(self, row: int) -> str:
        kept_before = self.skipped - np.arange(len(self.skipped))
        return self.place(row + int(np.searchsorted(kept_before, row, side="right")))


def clean_chunk(
    arrays: Sequence[pa.Array],
    place: Place,
    bad_rows: BadRowCollector,
    *,
    dtype: str,
    problems: Sequence[Problem] = (),
) -> Chunk:
    """Return the usable rows of a chunk; the others go to ``bad_rows``.

    ``arrays``: row ids, column ids, for ratings also float64 values, and int64 times if requested.
    ``problems`` are those that the reader itself has found.
    """
    found = [*problems, *_missing(arrays), *_not_finite(arrays, dtype)]
    bad = bad_rows.bad(len(arrays[0]), found, place)
    if bad is not None:
        keep = pa.array(~bad)
        # Decoded, as a dictionary would still hold the ids of bad rows.
        arrays = [array.filter(keep).cast(decoded_type(array.type)) for array in arrays]
        place = _PlaceOfKept(place, np.flatnonzero(bad))
    row_ids, column_ids, *numbers = arrays
    values, times = ([array.to_numpy() for array in numbers] + [None, None])[:2]
    return Chunk(row_ids, column_ids, values, times, place)


def _missing(arrays: Sequence[pa.Array]) -> list[Problem]:
    return [
        Problem(
            array.is_null().to_numpy(zero_copy_only=False),
            lambda _, role=role: f"the {role} is missing; fill it in or drop the line",  # type: ignore[misc]
        )
        for role, array in zip(ROLES, arrays, strict=False)
        if array.null_count
    ]


def _not_finite(arrays: Sequence[pa.Array], dtype: str) -> list[Problem]:
    if len(arrays) < 3:
        return []
    values = pc.fill_null(arrays[2], 0.0).to_numpy(zero_copy_only=False)
    largest = float(np.finfo(dtype).max)
    fits = np.abs(values) <= largest
    if fits.all():
        return []

    def words(row: int) -> str:
        if np.isfinite(values[row]):
            return f"the {ROLES[2]} is {values[row]:g}, which {dtype} cannot hold; read it with dtype float64"
        return f"the {ROLES[2]} is {values[row]}, but a finite number was expected; fix or drop the line"

    return [Problem(~fits, words)]
