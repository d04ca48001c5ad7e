"""A delimited text table: how its wanted columns stand in the text, and pyarrow's parser for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import csv

from dmf_fast.data.bad_rows import Problem
from dmf_fast.data.sources import RatingsFile
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
    """The wanted columns of a text."""

    file: RatingsFile
    dialect: TextDialect
    columns: Sequence[TextColumn]


@dataclass(frozen=True)
class ParsedBlock:
    """The wanted columns of a block by role, a row for each line that is not empty, and faults of rows."""

    arrays: dict[int, pa.Array]
    problems: Sequence[Problem] = ()


def id_column(role: int, position: int, *, text: bool) -> TextColumn:
    """Return a column of ids, read as text or as integers."""
    return TextColumn(role, position, pa.large_string() if text else pa.int64())


def parse(
    table: TextTable,
    columns: Sequence[TextColumn],
    data: bytes,
    invalid_row_handler: Callable[[csv.InvalidRow], str] | None = None,
) -> list[pa.Array]:
    """Return columns of delimited lines; a cell that does not fit its type is a `pyarrow.ArrowInvalid`.

    A row of another width is one, too, unless ``invalid_row_handler`` returns ``"skip"``.
    """
    names = [str(position) for position in range(table.dialect.width)]
    chosen = [names[column.position] for column in columns]
    cells = csv.read_csv(
        pa.BufferReader(data),
        csv.ReadOptions(
            column_names=names,
            block_size=_ARROW_BLOCK_BYTES,
            # An Arrow thread that lets go of a Python function while the interpreter ends aborts the process.
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
    """Return the column in one piece."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
