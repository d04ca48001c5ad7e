"""Unusable rows: skipped and counted, with the first ones described; in strict mode, an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dmf_fast.data.errors import DataError

_EXAMPLES = 10
_HEAD = 1000
_MOST = 500_000  # handling bad rows is slow, so reading stops after this many if most rows are bad


@dataclass(frozen=True)
class BadRows:
    r"""The number of skipped rows, and ``"FILE, line N: what is wrong"`` for the first ten.

    >>> bool(BadRows()), str(BadRows(1, ("a.csv, line 7: the value (rating) is missing.",)))
    (False, '1 bad row was skipped:\n  a.csv, line 7: the value (rating) is missing.')
    """

    count: int = 0
    examples: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        if not self.count:
            return "No bad rows."
        were = "1 bad row was" if self.count == 1 else f"{self.count} bad rows were"
        shown = "" if self.count == len(self.examples) else f", the first {len(self.examples)} of them"
        return "\n  ".join([f"{were} skipped{shown}:", *self.examples])


@dataclass(frozen=True)
class Problem:
    """The rows of a chunk with one kind of fault, and a function that describes it at a row."""

    rows: NDArray[np.bool_]
    words: Callable[[int], str]


class BadRowCollector:
    """Collects the bad rows of a source, file by file and chunk by chunk."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._count = self._rows = 0
        self._examples: list[str] = []
        self.start_file()

    @property
    def report(self) -> BadRows:
        """The bad rows so far."""
        return BadRows(self._count, tuple(self._examples))

    def start_file(self) -> None:
        """Start counting the first rows of a new file."""
        self._head = self._bad_in_head = 0
        self._first_in_file: str | None = None

    def finish_file(self) -> None:
        """Reject a file whose first rows are mostly bad: they are not ratings, or the columns are wrong."""
        if 2 * self._bad_in_head > self._head:
            others = (
                f"; so are {self._bad_in_head} of the first {self._head} rows: these are not ratings, or "
                "they are in other columns (--columns)"
            )
            raise DataError(f"{self._first_in_file}{others if self._bad_in_head > 1 else ''}")

    def bad(
        self, size: int, problems: Sequence[Problem], place: Callable[[int], str]
    ) -> NDArray[np.bool_] | None:
        """Record the problems of a chunk of ``size`` rows and return which rows are bad, or None if none are.

        ``place(k)`` describes where row ``k`` is. Of several problems of a row, the first is described.
        """
        bad = np.zeros(size, dtype=np.bool_)
        for problem in problems:
            bad |= problem.rows
        if bad.any():
            self._describe(np.flatnonzero(bad), problems, place)
        head = min(size, _HEAD - self._head)
        self._head += head
        self._bad_in_head += int(bad[:head].sum())
        if head and self._head == _HEAD:
            self.finish_file()
        self._rows += size
        if self._count > _MOST and 2 * self._count > self._rows:
            raise DataError(
                f"{self._examples[0]}; so are {self._count} of the first {self._rows} rows: these are not "
                "ratings, or they are in other columns (--columns)"
            )
        return bad if bad.any() else None

    def _describe(
        self, rows: NDArray[np.intp], problems: Sequence[Problem], place: Callable[[int], str]
    ) -> None:
        def sentence(row: int) -> str:
            return f"{place(row)}: {next(p for p in problems if p.rows[row]).words(row)}"

        if self._strict:
            raise DataError(sentence(int(rows[0])))
        if self._first_in_file is None:
            self._first_in_file = sentence(int(rows[0]))
        self._count += len(rows)
        missing = max(0, _EXAMPLES - len(self._examples))
        self._examples += [sentence(int(row)) for row in rows[:missing]]
