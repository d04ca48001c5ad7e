"""How ratings are read: the one place for the options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dmf_fast.checks import one_of


@dataclass(frozen=True)
class ReadOptions:
    """What to read of a source, and what to do with rows that cannot be used.

    ``columns``: names, or positions from 1, of the row, column and value columns of a table, and of a fourth
    with times, which sets ``times``; None recognizes them. ``separator`` of text tables; None sniffs it.
    ``times``: keep the time of every entry, too. ``dtype`` of the values. ``text_ids``: whether row ids and
    column ids are text even where all are integers, so that ``007`` stays apart from ``7``. ``strict``:
    the first bad row is an error; otherwise bad rows are skipped and counted.

    >>> ReadOptions(columns=["viewer", "film", "stars"], strict=True).dtype
    'float32'
    """

    columns: Sequence[str] | None = None
    separator: str | None = None
    times: bool = False
    dtype: Literal["float32", "float64"] = "float32"
    text_ids: tuple[bool, bool] = (False, False)
    strict: bool = False

    def __post_init__(self) -> None:
        """Refuse what no reader can follow."""
        one_of("dtype", self.dtype, ("float32", "float64"))
        if isinstance(self.columns, str):
            raise TypeError(f"`columns` must be a list of names, got the text {self.columns!r}; split it")
        if self.columns is not None:
            object.__setattr__(self, "columns", tuple(str(column) for column in self.columns))
            if len(self.columns) == 4:
                object.__setattr__(self, "times", True)
