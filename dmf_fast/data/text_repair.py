"""Finds which lines of a block of text are bad, and why: slow, only for blocks that do not parse."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from dmf_fast.data.bad_rows import Problem
from dmf_fast.data.column_choice import ROLES
from dmf_fast.data.errors import DataError, shown
from dmf_fast.data.text_blocks import TextBlock, count_filled
from dmf_fast.data.text_table import ParsedBlock, TextColumn, TextTable, parse, table_ids
from dmf_fast.data.times import text_to_seconds
from dmf_fast.files.reading import short_reason

_NO_TEXT = "\U0010ffff"
_POINT = "write a decimal point instead of the comma"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(?i:nan|inf|infinity)$"


def repaired_block(table: TextTable, block: TextBlock) -> ParsedBlock:
    """Read every cell of the wanted columns as text, and describe the problems of bad lines.

    An unusable cell is missing in the result, and its row is in one of the problems.
    """
    cells, problems = _cells(table, block)
    arrays: dict[int, pa.Array] = {}
    # Ids last: ids of bad lines must not decide whether a column holds text.
    for column in sorted(table.columns, key=lambda column: -column.role):
        text = cells[column.role]
        if column.role < 2:
            bad = np.logical_or.reduce([problem.rows for problem in problems])
            arrays[column.role] = table_ids(column, text, bad)
            continue
        arrays[column.role], problem = (_times if column.role == 3 else _numbers)(text)
        problems.append(problem)
    return ParsedBlock(arrays, problems)


def _cells(table: TextTable, block: TextBlock) -> tuple[dict[int, pa.Array], list[Problem]]:
    """Return the text of the wanted cells by role, missing in lines of another width, which are bad."""
    columns = [replace(column, kind=pa.large_string()) for column in table.columns]
    data, unclosed = _marked(block.data), frozenset[int]()
    try:
        arrays, wrong = _parsed(table, columns, data)
    except pa.ArrowInvalid:
        data, unclosed = _without_unclosed_quotes(data, table.dialect.delimiter.encode())
        try:
            arrays, wrong = _parsed(table, columns, data)
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{table.file} cannot be read as a table ({short_reason(error)}) from line "
                f"{block.lines_before + 1} on; check the file"
            ) from error
    found = {row.number - 1: row.actual_columns for row in wrong}
    good = np.ones(len(arrays[0]) + len(wrong), dtype=np.bool_)
    good[list(found)] = False
    positions = pa.array(np.cumsum(good) - 1, mask=~good)
    cells = {
        column.role: _checked(table, block, column, array.take(positions))
        for column, array in zip(columns, arrays, strict=True)
    }

    def words(row: int) -> str:
        if row in unclosed:
            return "a quotation mark is opened but not closed; fix the line"
        dialect = table.dialect
        return (
            f"{dialect.width} columns separated by {dialect.separator!r} were expected, as in the first "
            f"line, but {found[row]} found; fix the line (a truncated file ends like this)"
        )

    return cells, [Problem(~good, words)]


def _marked(data: bytes) -> bytes:
    """Return UTF-8 in which each invalid byte is replaced by a character that occurs in no text."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return re.sub("[\udc80-\udcff]", _NO_TEXT, data.decode(errors="surrogateescape")).encode()
    return data


def _checked(table: TextTable, block: TextBlock, column: TextColumn, cells: pa.Array) -> pa.Array:
    """Return the cells; an id that is invalid in the encoding raises a `DataError`."""
    undecodable = pc.fill_null(pc.match_substring(cells, _NO_TEXT), False)
    if column.role < 2 and pc.any(undecodable).as_py():
        row = undecodable.index(True).as_py()
        place, key = table.place(block.lines_before)(row), cells[row].as_py().replace(_NO_TEXT, "\ufffd")
        raise DataError(
            f"{place}: the {ROLES[column.role]} id {shown(key)} is not valid in the encoding; pass the right "
            "one with --encoding, such as latin-1, or save the file as UTF-8"
        )
    return cells


def _parsed(
    table: TextTable, columns: list[TextColumn], data: bytes
) -> tuple[list[pa.Array], list[csv.InvalidRow]]:
    """Return the cells of the lines with the right width, and the other lines."""
    wrong: list[csv.InvalidRow] = []

    def skip(row: csv.InvalidRow) -> str:
        wrong.append(row)
        return "skip"

    arrays = parse(table, columns, data, skip)
    if len(arrays[0]) + len(wrong) != count_filled(data):
        raise pa.ArrowInvalid("a quotation mark is opened but not closed")
    return arrays, wrong


def _without_unclosed_quotes(data: bytes, delimiter: bytes) -> tuple[bytes, frozenset[int]]:
    """Replace every line with an unclosed quotation mark by one cell; return the text and these lines."""
    lines = [line for line in data.split(b"\n") if line not in (b"", b"\r")]
    unclosed = frozenset(k for k, line in enumerate(lines) if _is_unclosed(line, delimiter))
    return b"\n".join(b"?" if k in unclosed else line for k, line in enumerate(lines)) + b"\n", unclosed


def _is_unclosed(line: bytes, delimiter: bytes) -> bool:
    """Return whether a cell that begins with a quotation mark continues after the line."""
    start = 0
    while start < len(line):
        if line[start : start + 1] == b'"':
            end = line.find(b'"', start + 1)
            while line[end + 1 : end + 2] == b'"' and end >= 0:  # a doubled one is a character
                end = line.find(b'"', end + 2)
            if end < 0:
                return True
            start = end
        next_delimiter = line.find(delimiter, start)
        if next_delimiter < 0:
            return False
        start = next_delimiter + 1
    return False


def _trimmed(text: pa.Array) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def _numbers(text: pa.Array) -> tuple[pa.Array, Problem]:
    trimmed = _trimmed(text)
    numbers = pc.match_substring_regex(trimmed, _NUMBER)

    def words(row: int) -> str:
        return f"the {ROLES[2]} is {shown(text[row].as_py())}, but a number was expected; " + (
            _POINT
            if _has_comma(text[row].as_py())
            else "fix the line, or choose the column of numbers with --columns"
        )

    return pc.if_else(numbers, trimmed, None).cast(pa.float64()), Problem(_false(numbers), words)


def _has_comma(cell: str) -> bool:
    return re.fullmatch(r"\s*[+-]?\d+,\d+\s*", cell) is not None


def _times(text: pa.Array) -> tuple[pa.Array, Problem]:
    seconds, wrong = text_to_seconds(_trimmed(text))

    def words(row: int) -> str:
        return (
            f"the {ROLES[3]} is {shown(text[row].as_py())}, but seconds, a date or an ISO 8601 time was "
            "expected; fix the line"
        )

    return seconds, Problem(wrong, words)


def _false(condition: pa.Array) -> NDArray[np.bool_]:
    """Return where ``condition`` is false and not missing."""
    found: NDArray[np.bool_] = pc.fill_null(pc.invert(condition), False).to_numpy(zero_copy_only=False)
    return found
