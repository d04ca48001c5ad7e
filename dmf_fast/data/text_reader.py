"""Reads delimited text tables block by block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dmf_fast.data.bad_rows import BadRowCollector
from dmf_fast.data.chunks import Chunk, TextIdsFound, clean_chunk
from dmf_fast.data.column_choice import choose_columns
from dmf_fast.data.options import ReadOptions
from dmf_fast.data.sources import RatingsFile
from dmf_fast.data.text_blocks import LineOfFile, TextBlock, count_filled, text_blocks
from dmf_fast.data.text_dialect import sniff
from dmf_fast.data.text_repair import repaired_block
from dmf_fast.data.text_table import ParsedBlock, TextColumn, TextTable, id_column, parse
from dmf_fast.data.times import time_type, to_seconds

_PIECES = 16
_REPAIRED_BYTES = 1 << 16


def text_chunks(
    file: RatingsFile, lines: list[str], options: ReadOptions, count: int, bad_rows: BadRowCollector
) -> Iterator[Chunk]:
    """Yield ``count`` columns (row ids, column ids, values, times) of a table that begins with ``lines``.

    Raises `TextIdsFound` where ids that should be integers, by ``options.text_ids``, are not.
    """
    dialect = sniff(file, lines, options.separator)
    positions = choose_columns(str(file), dialect.names, dialect.width, options.columns, count)
    columns = [id_column(role, positions[role], text=options.text_ids[role]) for role in (0, 1)]
    if count > 2:
        columns.append(TextColumn(2, positions[2], pa.float64()))
    if count > 3:
        columns.append(TextColumn(3, positions[3], time_type(dialect.example(positions[3]))))
    table = TextTable(file, dialect, columns)
    for block in text_blocks(file, dialect.skipped_lines):
        for piece, parsed in parsed_pieces(table, block):
            place = LineOfFile(file, dialect.skipped_lines, piece.lines_before)
            arrays = [parsed.arrays[role] for role in range(count)]
            yield clean_chunk(arrays, place, bad_rows, dtype=options.dtype, problems=parsed.problems)


def parsed_pieces(table: TextTable, block: TextBlock) -> Iterator[tuple[TextBlock, ParsedBlock]]:
    """Yield the columns of a block: ids as int64 or text, float64 values, int64 times.

    A block with bad lines comes in pieces, so that the slow repair has little to look at.
    """
    data = table.dialect.delimited(block.data)
    _refuse_leading_zeros(table, data)
    yield from _parsed(table, TextBlock(data, block.lines_before))


def _parsed(table: TextTable, block: TextBlock) -> Iterator[tuple[TextBlock, ParsedBlock]]:
    try:
        arrays = parse(table, table.columns, block.data)
    except pa.ArrowException:
        arrays = None
    # A quotation mark that is not closed joins lines, without an error.
    if arrays is not None and (b'"' not in block.data or len(arrays[0]) == count_filled(block.data)):
        by_role = {column.role: array for column, array in zip(table.columns, arrays, strict=True)}
        if 3 in by_role:
            by_role[3] = to_seconds(by_role[3])
        yield block, ParsedBlock(by_role)
    elif len(block.data) > _REPAIRED_BYTES:
        for piece in block.pieces(_PIECES):
            yield from _parsed(table, piece)
    else:
        yield block, repaired_block(table, block)


def _refuse_leading_zeros(table: TextTable, data: bytes) -> None:
    """Raise `TextIdsFound` where an integer would spoil an id: Arrow reads 007 as 7 and 0x1F as 31."""
    integers = [column for column in table.columns if column.kind == pa.int64() and column.role < 2]
    if not integers or not _has_leading_zeros(data, table.dialect.delimiter):
        return
    as_text = [id_column(column.role, column.position, text=True) for column in integers]
    try:
        arrays = parse(table, as_text, data)
    except pa.ArrowInvalid:
        return  # The repair will look at every cell.
    for column, array in zip(as_text, arrays, strict=True):
        if pc.any(pc.match_substring_regex(array, r"^\s*0[0-9xX]")).as_py():
            raise TextIdsFound(column.role)


def _has_leading_zeros(data: bytes, delimiter: str) -> bool:
    """Return whether some cell begins with a zero that a digit or an x follows."""
    digits = b"0123456789xX"
    letters = np.frombuffer(data, np.uint8)
    if len(letters) < 3:
        return False
    before = letters[:-2]
    starts = (before == ord(delimiter)) | (before == ord("\n")) | (before == ord('"'))
    starts &= letters[1:-1] == ord("0")
    after = letters[np.flatnonzero(starts) + 2]
    at_the_start = data[:1] == b"0" and data[1] in digits
    return at_the_start or bool(np.isin(after, np.frombuffer(digits, np.uint8)).any())
