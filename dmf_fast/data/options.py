"""Options for reading ratings."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dmf_fast.checks import one_of


@dataclass(frozen=True)
class ReadOptions:
    """Which columns to read, and how to treat unusable rows.

    Which ids are integers, and which are the same id, follows from the rules of `dmf_fast.data.raw_ids`. Text
    tables are interpreted as follows:

    - *Lines* end in LF, CRLF or CR; empty lines are ignored. Comments before the table begin with ``#`` or
      ``%``. Cells of other columns may hold anything, even bytes that are invalid in the encoding.
    - *Separator*: the first of ``::``, tab, one of comma, semicolon and bar, and any number of blanks that
      splits the first lines into equally many cells. If two of comma, semicolon and bar do, a `DataError`
      asks for ``separator``.
    - *Header*: a first line with well-known names for all wanted columns, or with a name from ``columns``.
      For ratings, also a first line without a number. For pairs, a `UserWarning` says that the first line
      might be a header.
    - *Columns*: well-known names, such as user, item, rating and time, or else this order.

    Attributes:
        columns: names, or positions from 1, of the row, column and value columns of a table, and of a fourth
            column with times, which sets ``times``; None to recognize them.
        separator: separator of text tables; None to detect it.
        encoding: encoding of text; None for UTF-8, or for UTF-16 and UTF-32 with a byte order mark.
        times: whether to keep the time of every entry.
        dtype: ``"float32"`` or ``"float64"``, of the values.
        text_ids: whether row ids and column ids are text even if all are integers, so that ``007`` and ``7``
            are different ids.
        strict: whether the first bad row is an error; otherwise bad rows are skipped and counted.

    Raises:
        TypeError: ``columns`` is a single string.
        ValueError: ``dtype``, ``separator`` or ``encoding`` is unknown.

    Example:
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
        """Check the options."""
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
    r"""Return a separator of cells, ``\t`` for a tab; a `ValueError` if it would split numbers or quotes."""
    separator = separator.replace("\\t", "\t")
    if not separator or any(letter.isalnum() or letter in '"\r\n\0.-+\x1f' for letter in separator):
        raise ValueError(
            "`separator` must be one or more characters that do not occur in cells, such as ',', '::' or "
            f"'\\t', got {separator!r}"
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
