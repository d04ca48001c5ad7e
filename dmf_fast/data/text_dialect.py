"""Finds out how a text table is written: separator, header, columns whose ids must stay text."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dmf_fast.data.errors import DataError

_SEPARATORS = ("::", "\t", ",", ";", "|", " ")
_SAMPLE_BYTES = 1 << 16
_SAMPLE_LINES = 20


@dataclass(frozen=True)
class TextDialect:
    """How a text table is written.

    ``names`` are those of the header, if there is one; ``first_line`` is the number of lines before the
    first data line; ``text_columns`` are the positions of ids such as ``007``, which an integer would spoil.
    """

    separator: str
    names: list[str] | None
    width: int
    first_line: int
    text_columns: frozenset[int]


def sniff(path: Path, separator: str | None = None) -> TextDialect:
    """Return the dialect of the table at ``path``, judged by its first lines.

    A header is a first line in which no cell is a number. ``separator`` overrules the guess.
    """
    if separator is not None and len(separator) != 1 and separator != "::":
        raise DataError(f"The separator must be one character or '::', not {separator!r}.")
    lines = _first_lines(path)
    filled = [line for line in lines if line.strip()]
    if not filled:
        raise DataError(f"{path} is empty: lines of row, column and value were expected; check the file.")
    separator = separator if separator is not None else _guess_separator(path, filled)
    cells = [_split(line, separator) for line in filled]
    has_header = not any(_is_number(cell) for cell in cells[0])
    if has_header and len(cells) == 1:
        raise DataError(f"{path} is empty below its header {filled[0].strip()!r}; add the data lines.")
    data = cells[1:] if has_header else cells
    return TextDialect(
        separator=separator,
        names=[cell.strip() for cell in cells[0]] if has_header else None,
        width=len(cells[0]),
        first_line=lines.index(filled[0]) + 1 if has_header else 0,
        text_columns=frozenset(
            position for line in data for position, cell in enumerate(line) if re.match(r"0\d", cell.strip())
        ),
    )


def _first_lines(path: Path) -> list[str]:
    """Return the first lines, without a last one that the sample cuts in two."""
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            sample: bytes = stream.read(_SAMPLE_BYTES)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read ({error}); check the file.") from error
    if b"\0" in sample:
        raise DataError(
            f"{path} is a binary file of unknown kind: a text table, Parquet, Matrix Market (.mtx) or "
            "SciPy (.npz) was expected; convert it to one of these."
        )
    whole = sample if len(sample) < _SAMPLE_BYTES else sample[: sample.rfind(b"\n") + 1] or sample
    try:
        lines = whole.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = whole[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: the text is not UTF-8 (a binary file, or another encoding); "
            "save it as UTF-8."
        ) from error
    return lines[:_SAMPLE_LINES]


def _guess_separator(path: Path, lines: list[str]) -> str:
    """Return the first separator that cuts every line into the same number of cells, at least two."""
    for separator in _SEPARATORS:
        widths = {len(_split(line, separator)) for line in lines}
        if len(widths) == 1 and widths != {1}:
            return separator
    for separator in _SEPARATORS:
        if separator in lines[0]:
            return separator
    raise DataError(
        f"{path} has one column: row, column and value were expected, separated by a tab, comma, "
        "semicolon, '|', space or '::'; add the missing columns or say --separator."
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
