"""Reads delimited text tables block by block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dmf_fast.data.bad_rows import BadRowCollector
from dmf_fast.data.chunks import Chunk, clean_chunk
from dmf_fast.data.column_choice import choose_columns
from dmf_fast.data.options import ReadOptions
from dmf_fast.data.sources import RatingsFile
from dmf_fast.data.text_blocks import TextBlock, count_filled, text_blocks
from dmf_fast.data.text_dialect import sniff
from dmf_fast.data.text_repair import repaired_block
from dmf_fast.data.text_table import (
    ParsedBlock,
    TextColumn,
    TextTable,
    id_column,
    parse,
    table_ids,
    with_text_ids,
)
from dmf_fast.data.times import time_type, to_seconds

_PIECES = 16
_REPAIRED_BYTES = 1 << 16
_DIGITS_AND_X = np.frombuffer(b"0123456789xX", np.uint8)


def text_chunks(
    file: RatingsFile, lines: list[str], options: ReadOptions, count: int, bad_rows: BadRowCollector
) -> Iterator[Chunk]:
    """Yield ``count`` columns (row ids, column ids, values, times) of a table that begins with ``lines``."""
    dialect = sniff(file, lines, options, count)
    positions = choose_columns(str(file), dialect.names, dialect.width, options.columns, count)
    columns = [id_column(role, positions[role], text=options.text_ids[role]) for role in (0, 1)]
    if count > 2:
        columns.append(TextColumn(2, positions[2], pa.float64()))
    if count > 3:
        columns.append(TextColumn(3, positions[3], time_type(dialect.example(positions[3]))))
    table = TextTable(file, dialect, columns, options.encoding)
    for block in text_blocks(file, dialect.skipped_lines, options.encoding):
        for piece, parsed in parsed_pieces(table, block):
            place = table.place(piece.lines_before)
            arrays = [parsed.arrays[role] for role in range(count)]
            yield clean_chunk(arrays, place, bad_rows, dtype=options.dtype, problems=parsed.problems)


def parsed_pieces(table: TextTable, block: TextBlock) -> Iterator[tuple[TextBlock, ParsedBlock]]:
    """Yield the columns of a block: ids as int64 or text, float64 values, int64 times.

    A block with bad lines is split into pieces, so that the slow repair applies to few lines. Raises
    `TextIdsFound` if an id that should be an integer is text.
    """
    data = table.dialect.delimited(block.data)
    if data:
        yield from _parsed(table, TextBlock(data, block.lines_before))


def _parsed(table: TextTable, block: TextBlock) -> Iterator[tuple[TextBlock, ParsedBlock]]:
    """Parse a block at once; if that fails, with ids as text; if that fails too, cell by cell."""
    parsed, with_text = None, with_text_ids(table.columns)
    has_integers = with_text != table.columns
    if not (has_integers and _has_leading_zeros(block.data, table.dialect.delimiter)):
        parsed = _parsed_at_once(table, table.columns, block)
    if parsed is None and has_integers:
        # The beginning tells quickly whether ids are text or lines are bad.
        head = next(block.pieces(1 + len(block.data) // _REPAIRED_BYTES))
        if _parsed_at_once(table, with_text, head) is not None:
            parsed = _parsed_at_once(table, with_text, block)
    if parsed is not None:
        yield block, parsed
        return
    # Blocks with few lines for their width are not split.
    is_large = len(block.data) > max(_REPAIRED_BYTES, 2 * _PIECES * table.dialect.width)
    pieces = list(block.pieces(_PIECES)) if is_large else []
    if len(pieces) < 2:
        yield block, repaired_block(table, block)
    for piece in pieces[1:] and pieces:
        yield from _parsed(table, piece)


def _parsed_at_once(table: TextTable, columns: list[TextColumn], block: TextBlock) -> ParsedBlock | None:
    """Return the columns of a block, or None if a line is bad."""
    try:
        arrays = parse(table, columns, block.data)
        # An unclosed quotation mark joins lines without an error.
        if b'"' in block.data and len(arrays[0]) != count_filled(block.data):
            return None
        by_role = {column.role: array for column, array in zip(columns, arrays, strict=True)}
        if 3 in by_role:
            by_role[3] = to_seconds(by_role[3])
    except pa.ArrowException:
        return None
    for column in table.id_columns:
        by_role[column.role] = table_ids(column, by_role[column.role])
    return ParsedBlock(by_role)


def _has_leading_zeros(data: bytes, delimiter: str) -> bool:
    """Return whether some cell may begin with a zero followed by a digit or an x.

    Arrow reads 007 and -007 as integers, and 0x1F as 31.
    """
    letters = np.frombuffer(b"\n" + data, np.uint8)
    begins = _begins_cell(letters, delimiter)
    begins[:-1] &= letters[1:] == ord("0")
    zeros = np.flatnonzero(begins[:-1]) + 1
    zeros = zeros[np.isin(letters[np.minimum(zeros + 1, len(letters) - 1)], _DIGITS_AND_X)]
    before = letters[zeros - 1]
    signed = before == ord("-")
    return bool((~signed).any() or _begins_cell(letters[zeros[signed] - 2], delimiter).any())


def _begins_cell(letters: NDArray[np.uint8], delimiter: str) -> NDArray[np.bool_]:
    """Return after which characters a cell may begin: blanks, quotes, line ends, signs, all below a point."""
    begins: NDArray[np.bool_] = letters < ord(".")
    if delimiter >= ".":
        begins |= letters == ord(delimiter)
    return begins
