"""Finds out how a text table is written: separator, header, columns whose ids must stay text."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from itertools import islice

from dmf_fast.data.errors import DataError
from dmf_fast.data.sources import RatingsFile

_SEPARATORS = ("::", "\t", ",", ";", "|", " ")
_SAMPLE_BYTES = 1 << 16
_SAMPLE_LINES = 20
_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class TextDialect:
    """How a text table is written.

    ``names`` are those of the header, if there is one; ``skipped_lines`` is the number of lines before the
    first data line; ``sample`` holds the cells of some data lines.
    """

    separator: str
    names: list[str] | None
    width: int
    skipped_lines: int
    sample: list[list[str]]

    @property
    def delimiter(self) -> str:
        """The separator as one character: pyarrow knows no longer ones."""
        return self.separator if len(self.separator) == 1 else "\x1f"

    def example(self, position: int) -> str:
        """Return the first cell of a column that is not empty, trimmed."""
        cells = (cells[position].strip() for cells in self.sample if position < len(cells))
        return next((cell for cell in cells if cell), "")

    def delimited(self, data: bytes) -> bytes:
        """Return lines in which the separator is `delimiter`."""
        if len(self.separator) == 1:
            return data
        return data.replace(self.separator.encode(), self.delimiter.encode())


def check_separator(separator: str | None) -> None:
    """Refuse a separator that is no character of its own."""
    if separator is not None and separator != "::" and (len(separator) != 1 or not separator.isascii()):
        raise DataError(f"`separator` must be one ASCII character or '::', got {separator!r}")


def sniff(file: RatingsFile, lines: list[str], separator: str | None = None) -> TextDialect:
    """Return the dialect of the table in ``file``, judged by its `first_lines`.

    A header is a first line in which no cell is a number. ``separator`` overrules the guess.
    """
    check_separator(separator)
    filled = list(islice((line for line in lines if line.strip()), _SAMPLE_LINES))
    if not filled:
        raise DataError(f"{file} is empty: lines of row, column and value were expected; check the file")
    separator = separator if separator is not None else _guess_separator(file, filled)
    cells = [_split(line, separator) for line in filled]
    has_header = not any(_is_number(cell) for cell in cells[0])
    if has_header and len(cells) == 1:
        raise DataError(f"{file} is empty below its header {filled[0].strip()!r}; add the data lines")
    return TextDialect(
        separator=separator,
        names=[cell.strip() for cell in cells[0]] if has_header else None,
        width=len(cells[0]),
        skipped_lines=lines.index(filled[0]) + 1 if has_header else 0,
        sample=cells[1:] if has_header else cells,
    )


def first_lines(file: RatingsFile) -> list[str]:
    """Return the first lines, without a last one that the sample cuts in two."""
    sample = file.first_bytes(_SAMPLE_BYTES)
    if b"\0" in sample:
        raise DataError(
            f"{file} is a binary file of unknown kind: a text table, Parquet, Matrix Market (.mtx) or "
            "SciPy (.npz) was expected; convert it to one of these"
        )
    if b"\n" not in sample and b"\r" in sample.rstrip(b"\r"):
        raise DataError(
            f"{file} ends its lines in carriage returns alone, as old Macintoshes did; end them in line feeds"
        )
    whole = sample if len(sample) < _SAMPLE_BYTES else sample[: sample.rfind(b"\n") + 1] or sample
    # Not splitlines, which cuts at U+2028 and others too: these are letters of ids.
    return _LINE_END.split(decoded(file, whole, encoding="utf-8-sig"))


def decoded(file: RatingsFile, data: bytes, lines_before: int = 0, encoding: str = "utf-8") -> str:
    """Return bytes of ``file`` as text; other encodings than UTF-8 are a `DataError`."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = lines_before + data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{file}, line {line}: the text is not UTF-8 (a binary file, or another encoding); "
            "save it as UTF-8"
        ) from error


def _guess_separator(file: RatingsFile, lines: list[str]) -> str:
    """Return the first separator that cuts every line into the same number of cells, at least two."""
    for separator in _SEPARATORS:
        widths = {len(_split(line, separator)) for line in lines}
        if len(widths) == 1 and widths != {1}:
            return separator
    for separator in _SEPARATORS:
        if separator in lines[0]:
            return separator
    raise DataError(
        f"{file} has one column: row, column and value were expected, separated by a tab, comma, "
        "semicolon, '|', space or '::'; add the missing columns or pass --separator"
    )


def _split(line: str, separator: str) -> list[str]:
    if len(separator) > 1:
        return line.split(separator)
    cells: list[str] = next(csv.reader([line], delimiter=separator))
    return cells


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
