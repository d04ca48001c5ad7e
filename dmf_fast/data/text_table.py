"""Reads columns of a delimited text table with pyarrow; errors name the line."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from dmf_fast.data.errors import DataError
from dmf_fast.data.raw_columns import ROLES, RawColumns, choose_columns
from dmf_fast.data.text_dialect import TextDialect, sniff


def read_text_table(
    path: Path,
    *,
    columns: Sequence[str] | None,
    separator: str | None,
    text_ids: tuple[bool, bool],
    count: int,
) -> RawColumns:
    """Return ``count`` columns (row ids, column ids and, for 3, float64 values) of the table at ``path``.

    Ids become int64 where every one of them is an integer, else text.
    """
    dialect = sniff(path, separator)
    positions = choose_columns(path, dialect.names, dialect.width, columns, count)
    kept_text = [text or p in dialect.text_columns for text, p in zip(text_ids, positions[:2], strict=True)]
    id_types = [pa.large_string() if text else pa.int64() for text in kept_text]
    types = [*id_types, pa.float64()][:count]
    try:
        arrays = _read(path, dialect, positions, types, threads=True)
    except pa.ArrowInvalid:
        # Some cell is not what was hoped for: read everything as text, in one thread, to see which.
        arrays = _read(path, dialect, positions, [pa.large_string()] * count, threads=False)
        arrays = [
            _integers_or_text(path, dialect, array, k) if k < 2 and not kept_text[k] else array
            for k, array in enumerate(arrays)
        ]
        if count == 3:
            arrays[2] = _numbers(path, dialect, arrays[2])
    return RawColumns(arrays, lambda entry: f"line {_line_number(path, dialect, entry)}")


def _read(
    path: Path, dialect: TextDialect, positions: list[int], types: list[pa.DataType], threads: bool
) -> list[pa.ChunkedArray]:
    """Read the columns at ``positions`` as ``types``; a row of another width is a `DataError`."""
    wrong_rows: list[csv.InvalidRow] = []

    def refuse(row: csv.InvalidRow) -> str:
        wrong_rows.append(row)
        return "error"

    # In a "::" file every second column of a ":" file is empty.
    stride = len(dialect.separator)
    names = [str(position) for position in range(stride * (dialect.width - 1) + 1)]
    chosen = [names[stride * position] for position in positions]
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            table = csv.read_csv(
                stream,
                csv.ReadOptions(column_names=names, skip_rows=dialect.first_line, use_threads=threads),
                # Only without threads: an Arrow thread that lets go of a Python function while the
                # interpreter ends aborts the process.
                csv.ParseOptions(
                    delimiter=dialect.separator[0], invalid_row_handler=None if threads else refuse
                ),
                csv.ConvertOptions(
                    column_types=dict(zip(chosen, types, strict=True)),
                    include_columns=chosen,
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); check the file.") from error
    except pa.ArrowInvalid as error:
        if threads:
            raise
        if wrong_rows:
            raise DataError(_wrong_width(path, dialect, wrong_rows[0])) from error
        raise DataError(f"{path} cannot be read as a table ({error}); check the file.") from error
    return [table.column(name) for name in chosen]


def _wrong_width(path: Path, dialect: TextDialect, row: csv.InvalidRow) -> str:
    line = _line_number(path, dialect, row.number - 1 - dialect.first_line)
    stride = len(dialect.separator)
    found = (row.actual_columns + stride - 1) // stride
    return (
        f"{path}, line {line}: {dialect.width} columns separated by {dialect.separator!r} were expected, "
        f"as in the first line, but {found} found; mend the line (a truncated file ends like this)."
    )


def _integers_or_text(
    path: Path, dialect: TextDialect, array: pa.ChunkedArray, position: int
) -> pa.ChunkedArray:
    trimmed = pc.utf8_trim_whitespace(array)
    try:
        return trimmed.cast(pa.int64())
    except pa.ArrowInvalid:
        integers = pc.match_substring_regex(trimmed, r"^[+-]?\d+$")
    if not pc.all(integers).as_py():
        return array
    # Every id is an integer and one of them, of 19 digits or more, does not fit.
    long = np.flatnonzero(pc.match_substring_regex(trimmed, r"\d{19}"))
    wide = next(int(entry) for entry in long if not -(2**63) <= int(trimmed[int(entry)].as_py()) < 2**63)
    raise DataError(
        f"{path}, line {_line_number(path, dialect, wide)}: the {ROLES[position]} id "
        f"{trimmed[wide].as_py()} does not fit 64 bits; ids are integers from -2^63 to 2^63 - 1 or text, "
        "so renumber the ids or put a letter before them."
    )


def _numbers(path: Path, dialect: TextDialect, array: pa.ChunkedArray) -> pa.ChunkedArray:
    trimmed = pc.utf8_trim_whitespace(array)
    try:
        return trimmed.cast(pa.float64())
    except pa.ArrowInvalid as error:
        number = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(?i:nan|inf|infinity)$"
        wrong = pc.index(pc.match_substring_regex(trimmed, number), False).as_py()
        raise DataError(
            f"{path}, line {_line_number(path, dialect, wrong)}: the {ROLES[2]} is "
            f"{array[wrong].as_py()!r} where a number was expected; mend the line, or say which column "
            "holds the numbers with --columns."
        ) from error


def _line_number(path: Path, dialect: TextDialect, entry: int) -> int:
    """Return the number of the line, from 1, of data entry ``entry`` (blank lines are not entries)."""
    with pa.input_stream(str(path), compression="detect") as stream:
        lines = stream.read().splitlines()
    filled = (
        number
        for number, line in enumerate(lines, start=1)
        if number > dialect.first_line and line.strip(b"\r\n")
    )
    return next(islice(filled, entry, None), len(lines))
