"""How ratings are read: the one place for the options."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dmf_fast.checks import one_of


@dataclass(frozen=True)
class ReadOptions:
    """What to read of a source, and what to do with rows that cannot be used.

    ``columns``: names, or positions from 1, of the row, column and value columns of a table, and of a fourth
    with times, which sets ``times``; None recognizes them. ``separator`` of text tables; None sniffs it.
    ``encoding`` of text; None for UTF-8, or UTF-16 and UTF-32 with a byte order mark.
    ``times``: keep the time of every entry, too. ``dtype`` of the values. ``text_ids``: whether row ids and
    column ids are text even where all are integers, so that ``007`` stays apart from ``7``. ``strict``:
    the first bad row is an error; otherwise bad rows are skipped and counted.

    Which ids are integers, and which are the same one, is the rule of `dmf_fast.data.raw_ids`. How text
    tables are understood:

    - *Lines* end in LF, CRLF or CR; empty ones count for nothing. Comments before the table begin with ``#``
      or ``%``. Of cells that are not wanted nothing is asked, not even that they are of the encoding.
    - *Separator*: the one that cuts the first lines into the same number of cells, of ``::``, tab, one of
      comma, semicolon and bar, or any number of blanks. Where two do, a `DataError` asks for ``separator``.
    - *Header*: a first line with well-known names for all wanted columns, or with a name of ``columns``. For
      ratings also one without a number; pairs have no other header, and a `UserWarning` says where their
      first line might be one.
    - *Columns*: well-known names, such as user, item, rating and time, or else this order.

    >>> ReadOptions(columns=["viewer", "film", "stars"], strict=True).dtype
    'float32'
    """

    columns: Sequence[str] | None = None
    separator: str | None = None
    encoding: str | None = None
    times: bool = False
    dtype: Literal["float32", "float64"] = "float32"
    text_ids: tuple[bool, bool] = (False, False)
    strict: bool = False

    def __post_init__(self) -> None:
        """Refuse what no reader can follow."""
        one_of("dtype", self.dtype, ("float32", "float64"))
        if self.separator is not None:
            object.__setattr__(self, "separator", _separator(self.separator))
        if self.encoding is not None:
            _check_encoding(self.encoding)
        if isinstance(self.columns, str):
            raise TypeError(f"`columns` must be a list of names, got the text {self.columns!r}; split it")
        if self.columns is not None:
            object.__setattr__(self, "columns", tuple(str(column) for column in self.columns))
            if len(self.columns) == 4:
                object.__setattr__(self, "times", True)


def _separator(separator: str) -> str:
    r"""Return a separator of cells, ``\t`` for a tab; a `ValueError` where it would cut numbers or quotes."""
    separator = separator.replace("\\t", "\t")
    if not separator or any(letter.isalnum() or letter in '"\r\n\0.-+\x1f' for letter in separator):
        raise ValueError(
            "`separator` must be one or more letters that are no part of cells, such as ',', '::' or '\\t', "
            f"got {separator!r}"
        )
    return separator


def _check_encoding(encoding: str) -> None:
    try:
        known = bool("7".encode(encoding)) and isinstance(codecs.lookup(encoding).name, str)
    except (LookupError, TypeError, ValueError):
        known = False
    if not known:
        raise ValueError(
            f"`encoding` must be one that Python knows, such as 'latin-1' or 'utf-16', got {encoding!r}"
        )
