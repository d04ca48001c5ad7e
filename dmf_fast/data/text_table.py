"""The wanted columns of a delimited text table, and pyarrow's parser for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from dmf_fast.data.bad_rows import Problem
from dmf_fast.data.chunks import TextIdsFound
from dmf_fast.data.raw_ids import text_ids, whole_numbers
from dmf_fast.data.sources import RatingsFile
from dmf_fast.data.text_blocks import LineOfFile
from dmf_fast.data.text_dialect import TextDialect

_ARROW_BLOCK_BYTES = 1 << 21


@dataclass(frozen=True)
class TextColumn:
    """A wanted column: its role (as in `ROLES`), its position in the text, and the type to read it as."""

    role: int
    position: int
    kind: pa.DataType


@dataclass(frozen=True)
class TextTable:
    """The wanted columns of a text; lines that match ``without`` are not rows, see `LineOfFile`."""

    file: RatingsFile
    dialect: TextDialect
    columns: list[TextColumn]
    encoding: str | None = None
    without: re.Pattern[bytes] | None = None

    @property
    def id_columns(self) -> list[TextColumn]:
        """The wanted columns that hold ids."""
        return [column for column in self.columns if column.role < 2]

    def place(self, lines_before: int) -> LineOfFile:
        """Return the place of the rows after the first ``lines_before`` lines."""
        without = self.without or self.dialect.empty_line
        return LineOfFile(self.file, self.dialect.skipped_lines, lines_before, without, self.encoding)


@dataclass(frozen=True)
class ParsedBlock:
    """The wanted columns of a block by role, with a row for each nonempty line, and problems of rows."""

    arrays: dict[int, pa.Array]
    problems: Sequence[Problem] = ()


def id_column(role: int, position: int, *, text: bool) -> TextColumn:
    """Return a column of ids, read as text or as integers."""
    return TextColumn(role, position, pa.large_string() if text else pa.int64())


def with_text_ids(columns: Sequence[TextColumn]) -> list[TextColumn]:
    """Return the columns, with ids as text."""
    return [replace(column, kind=pa.large_string()) if column.role < 2 else column for column in columns]


def table_ids(column: TextColumn, ids: pa.Array, bad: NDArray[np.bool_] | None = None) -> pa.Array:
    """Return parsed ids, int64 or text, in the kind of the column.

    Raises `TextIdsFound` if they should be integers and a row that is not ``bad`` has another id.
    """
    if ids.type == pa.int64():
        return ids
    ids = text_ids(ids)
    if column.kind != pa.int64():
        return ids
    numbers, others = whole_numbers(ids)
    if (others if bad is None else others & ~bad).any():
        raise TextIdsFound(column.role)
    return numbers


def parse(
    table: TextTable,
    columns: Sequence[TextColumn],
    data: bytes,
    invalid_row_handler: Callable[[csv.InvalidRow], str] | None = None,
) -> list[pa.Array]:
    """Return columns of delimited lines.

    Raises `pyarrow.ArrowInvalid` if a cell does not fit its type, or if a row has another width, unless
    ``invalid_row_handler`` returns ``"skip"``.
    """
    names = [str(position) for position in range(table.dialect.width)]
    chosen = [names[column.position] for column in columns]
    cells = csv.read_csv(
        pa.BufferReader(data),
        csv.ReadOptions(
            column_names=names,
            # No line may be longer, except in the repair, which reads line by line.
            block_size=max(_ARROW_BLOCK_BYTES, 0 if invalid_row_handler is None else len(data)),
            # An Arrow thread that releases a Python function while the interpreter exits aborts the process.
            use_threads=invalid_row_handler is None,
        ),
        csv.ParseOptions(delimiter=table.dialect.delimiter, invalid_row_handler=invalid_row_handler),
        csv.ConvertOptions(
            column_types={name: column.kind for name, column in zip(chosen, columns, strict=True)},
            include_columns=chosen,
            null_values=[""],
            strings_can_be_null=True,
        ),
    )
    return [one_array(cells.column(name)) for name in chosen]


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """Return the column as one array."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
