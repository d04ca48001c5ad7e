"""Finds out which lines of a block of text are bad, and why: slow, and only for blocks that do not parse."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from dmf_fast.data.bad_rows import Problem
from dmf_fast.data.chunks import TextIdsFound
from dmf_fast.data.column_choice import ROLES
from dmf_fast.data.errors import DataError
from dmf_fast.data.text_blocks import TextBlock, count_filled
from dmf_fast.data.text_dialect import decoded
from dmf_fast.data.text_table import ParsedBlock, TextColumn, TextTable, parse
from dmf_fast.data.times import text_to_seconds

_INTEGER = r"^(0|-?[1-9]\d*)$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(?i:nan|inf|infinity)$"


def repaired_block(table: TextTable, block: TextBlock) -> ParsedBlock:
    """Read every cell of the wanted columns as text, and say what keeps lines from being entries.

    A cell that cannot be used is missing in the result, and its row is in one of the problems.
    """
    decoded(table.file, block.data, block.lines_before)
    cells, problems = _cells(table, block)
    arrays: dict[int, pa.Array] = {}
    # Ids last: those of lines that are bad anyway do not decide whether a column holds text.
    for column in sorted(table.columns, key=lambda column: -column.role):
        text = cells[column.role]
        if column.role == 3:
            arrays[3], problem = _times(text)
        elif column.role == 2:
            arrays[2], problem = _numbers(text)
        elif column.kind == pa.int64():
            arrays[column.role], problem = _integers(text, column.role, problems)
        else:
            arrays[column.role], problem = text, None
        problems += [] if problem is None else [problem]
    return ParsedBlock(arrays, problems)


def _cells(table: TextTable, block: TextBlock) -> tuple[dict[int, pa.Array], list[Problem]]:
    """Return the text of the wanted cells by role, missing in lines of another width, which are a problem."""
    as_text = [TextColumn(column.role, column.position, pa.large_string()) for column in table.columns]
    data, unclosed = block.data, frozenset[int]()
    try:
        arrays, wrong = _parsed(table, as_text, data)
    except pa.ArrowInvalid:
        data, unclosed = _without_unclosed_quotes(data)
        try:
            arrays, wrong = _parsed(table, as_text, data)
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{table.file} cannot be read as a table ({error}) from line {block.lines_before + 1} on; "
                "check the file"
            ) from error
    found = {row.number - 1: row.actual_columns for row in wrong}
    good = np.ones(len(arrays[0]) + len(wrong), dtype=np.bool_)
    good[list(found)] = False
    positions = pa.array(np.cumsum(good) - 1, mask=~good)
    cells = {column.role: array.take(positions) for column, array in zip(as_text, arrays, strict=True)}

    def words(row: int) -> str:
        if row in unclosed:
            return "a quotation mark is opened and not closed; mend the line"
        dialect = table.dialect
        return (
            f"{dialect.width} columns separated by {dialect.separator!r} were expected, as in the first "
            f"line, but {found[row]} found; mend the line (a truncated file ends like this)"
        )

    return cells, [Problem(~good, words)]


def _parsed(
    table: TextTable, columns: list[TextColumn], data: bytes
) -> tuple[list[pa.Array], list[csv.InvalidRow]]:
    """Return the cells of lines of the right width, and the other lines; there is a row for each line."""
    wrong: list[csv.InvalidRow] = []

    def skip(row: csv.InvalidRow) -> str:
        wrong.append(row)
        return "skip"

    arrays = parse(table, columns, data, skip)
    if len(arrays[0]) + len(wrong) != count_filled(data):
        raise pa.ArrowInvalid("a quotation mark is opened and not closed")
    return arrays, wrong


def _without_unclosed_quotes(data: bytes) -> tuple[bytes, frozenset[int]]:
    """Return the lines with an odd number of quotation marks as lines of one cell, and which they are."""
    lines = [line for line in data.split(b"\n") if line not in (b"", b"\r")]
    odd = frozenset(k for k, line in enumerate(lines) if line.count(b'"') % 2)
    return b"\n".join(b"?" if k in odd else line for k, line in enumerate(lines)) + b"\n", odd


def _trimmed(text: pa.Array) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def _numbers(text: pa.Array) -> tuple[pa.Array, Problem]:
    trimmed = _trimmed(text)
    numbers = pc.match_substring_regex(trimmed, _NUMBER)

    def words(row: int) -> str:
        return (
            f"the {ROLES[2]} is {text[row].as_py()!r} where a number was expected; mend the line, or "
            "name the column of numbers with --columns"
        )

    return pc.if_else(numbers, trimmed, None).cast(pa.float64()), Problem(_false(numbers), words)


def _times(text: pa.Array) -> tuple[pa.Array, Problem]:
    seconds, wrong = text_to_seconds(_trimmed(text))

    def words(row: int) -> str:
        return (
            f"the {ROLES[3]} is {text[row].as_py()!r} where seconds, a date or an ISO 8601 time was "
            "expected; mend the line"
        )

    return seconds, Problem(wrong, words)


def _integers(text: pa.Array, role: int, problems: list[Problem]) -> tuple[pa.Array, Problem]:
    """Return ids as int64; where a line without problems has another id, that is a `TextIdsFound`."""
    trimmed = _trimmed(text)
    integers = pc.match_substring_regex(trimmed, _INTEGER)
    other = _false(integers)
    for problem in problems:
        other = other & ~problem.rows
    if other.any():
        raise TextIdsFound(role)
    wide = _beyond_64_bits(pc.if_else(integers, trimmed, None))

    def words(row: int) -> str:
        return (
            f"the {ROLES[role]} id {trimmed[row].as_py()} does not fit 64 bits; ids are integers from -2^63 "
            "to 2^63 - 1 or text, so renumber the ids or put a letter before them"
        )

    fitting = pc.and_(integers, pa.array(~wide))
    return pc.if_else(fitting, trimmed, None).cast(pa.int64()), Problem(wide, words)


def _beyond_64_bits(integers: pa.Array) -> NDArray[np.bool_]:
    wide = np.zeros(len(integers), dtype=np.bool_)
    long = pc.fill_null(pc.match_substring_regex(integers, r"\d{19}"), False)
    for row in np.flatnonzero(long.to_numpy(zero_copy_only=False)):
        wide[row] = not -(2**63) <= int(integers[int(row)].as_py()) < 2**63
    return wide


def _false(condition: pa.Array) -> NDArray[np.bool_]:
    """Return where ``condition`` is false; missing is not."""
    found: NDArray[np.bool_] = pc.fill_null(pc.invert(condition), False).to_numpy(zero_copy_only=False)
    return found
