"""Reads Matrix Market files, block by block, and checks all of their numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from dmf_fast.data.bad_rows import BadRowCollector
from dmf_fast.data.chunks import Chunk, NumberedPlace, clean_chunk
from dmf_fast.data.errors import DataError, shown
from dmf_fast.data.matrix_file import matrix_chunks
from dmf_fast.data.options import ReadOptions
from dmf_fast.data.sources import RatingsFile
from dmf_fast.data.text_blocks import text_blocks

_SYMMETRIES = ("general", "symmetric", "skew-symmetric", "hermitian")
_HEADER_BYTES = 1 << 20
_BLANKS = re.compile(rb"[ \t\r\f\v]+")
_NOT_SINGLE = (b"  ", b" \n", b"\n ", b"\t", b"\r", b"\f", b"\v")
_LARGEST = 2**63 - 1


def matrix_market_chunks(
    file: RatingsFile, options: ReadOptions, count: int, bad_rows: BadRowCollector
) -> Iterator[Chunk]:
    """Yield ``count`` columns of a Matrix Market file; its indices, from 1, are the ids.

    Stored zeros are ratings; NaN in a dense file is an unknown entry. Raises a `ValueError` if the file
    contradicts its header.
    """
    header = _read_header(file)
    if header.nnz is None:
        rows, columns, values = _dense_entries(file, header)
        yield from matrix_chunks(str(file), (rows, columns, values), 1, options, count, bad_rows)
        return
    if count > 3:
        raise DataError(f"{file} is a matrix, which has no times; read it without times, or read a table")
    entries = 0
    for table in _tables(file, header, {"row": pa.int64(), "column": pa.int64(), "value": pa.float64()}):
        rows, columns, values = (table.column(name).combine_chunks() for name in table.column_names)
        header.check(rows.to_numpy(), columns.to_numpy(), entries)
        place = NumberedPlace(str(file), "entry", entries)
        entries += len(values)
        yield clean_chunk([rows, columns, values][:count], place, bad_rows, dtype=options.dtype)
        if header.symmetry != "general":
            below = pa.array(rows.to_numpy() != columns.to_numpy())
            mirrored = values.to_numpy() * (-1 if header.symmetry == "skew-symmetric" else 1)
            arrays = [columns.filter(below), rows.filter(below), pa.array(mirrored).filter(below)]
            yield clean_chunk(
                arrays[:count], _Mirrored(place, np.flatnonzero(below)), bad_rows, dtype=options.dtype
            )
    if entries != header.nnz:
        raise ValueError(f"it holds {entries} entries, but its header says {header.nnz}")


@dataclass(frozen=True)
class _Header:
    """The header; ``nnz`` is None for a dense matrix."""

    shape: tuple[int, int]
    nnz: int | None
    symmetry: str
    lines: int

    def check(self, rows: NDArray[np.int64], columns: NDArray[np.int64], entries_before: int) -> None:
        """Raise a `ValueError` for indices outside the shape."""
        for name, indices, size in (("row", rows, self.shape[0]), ("column", columns, self.shape[1])):
            wrong = (indices < 1) | (indices > size)
            if wrong.any():
                place = int(wrong.argmax())
                raise ValueError(
                    f"entry {entries_before + place + 1} has the {name} {indices[place]}, outside 1..{size}"
                )
        if self.symmetry == "skew-symmetric" and (rows == columns).any():
            place = int((rows == columns).argmax())
            raise ValueError(
                f"entry {entries_before + place + 1} is on the diagonal of a skew-symmetric matrix"
            )


@dataclass(frozen=True)
class _Mirrored:
    """Describes the place of an entry that is mirrored across the diagonal."""

    place: NumberedPlace
    entries: NDArray[np.intp]

    def __call__(self, entry: int) -> str:
        return self.place(int(self.entries[entry]))


def _read_header(file: RatingsFile) -> _Header:
    start = file.first_bytes(_HEADER_BYTES)
    lines = start.split(b"\n")[: -1 if len(start) == _HEADER_BYTES else None]  # without a line that is cut
    banner = b"".join(lines[:1]).decode("ascii").lower().split()
    if len(banner) != 5 or banner[0] != "%%matrixmarket" or banner[1] != "matrix":
        raise ValueError("its first line must be %%MatrixMarket matrix FORM FIELD SYMMETRY")
    form, field, symmetry = banner[2:]
    if field not in ("real", "double", "integer", "unsigned-integer"):
        raise DataError(
            f"{file} is a Matrix Market file with the field {shown(field)}, but real or integer values "
            "were expected; write it with values"
        )
    if form not in ("coordinate", "array") or symmetry not in _SYMMETRIES:
        raise ValueError(f"it has the form {form!r} and the symmetry {symmetry!r}")
    number = next((k for k, line in enumerate(lines) if line.strip() and not line.startswith(b"%")), None)
    if number is None:
        raise ValueError("there is no line with its size")
    sizes = lines[number].split()
    if len(sizes) != (3 if form == "coordinate" else 2) or not all(size.isdigit() for size in sizes):
        raise ValueError("the line with its size must hold whole numbers: rows, columns and entries")
    m, n, *nnz = (int(size) for size in sizes)
    if max(m, n, *nnz) > _LARGEST:
        raise ValueError(f"it must have at most {_LARGEST} rows, columns and entries")
    if symmetry != "general" and m != n:
        raise ValueError(f"it is {symmetry}, but has {m} rows and {n} columns")
    return _Header((m, n), nnz[0] if nnz else None, symmetry, number + 1)


def _dense_entries(file: RatingsFile, header: _Header) -> tuple[Any, Any, Any]:
    """Return the entries of a dense matrix, stored column by column, that are not NaN."""
    m, n = header.shape
    skew = header.symmetry == "skew-symmetric"
    expected = m * n if header.symmetry == "general" else m * (m - 1) // 2 if skew else m * (m + 1) // 2
    tables = [table.column(0).to_numpy() for table in _tables(file, header, {"value": pa.float64()})]
    values = np.concatenate([np.zeros(0), *tables])
    if len(values) != expected:
        raise ValueError(f"it holds {len(values)} values, but its header says {expected}")
    if header.symmetry == "general":
        columns, rows = np.divmod(np.arange(expected), max(m, 1))
    else:
        columns, rows = np.triu_indices(m, k=int(skew))
        below = rows != columns
        rows, columns = np.append(rows, columns[below]), np.append(columns, rows[below])
        values = np.append(values, -values[below] if skew else values[below])
    known = ~np.isnan(values)
    return rows[known], columns[known], values[known]


def _tables(file: RatingsFile, header: _Header, types: dict[str, pa.DataType]) -> Iterator[pa.Table]:
    """Yield the lines after the header as columns of ``types``."""
    read = csv.ReadOptions(column_names=list(types), block_size=1 << 22)
    parse = csv.ParseOptions(delimiter=" ", quote_char=False, double_quote=False)
    convert = csv.ConvertOptions(column_types=types, null_values=[])
    for block in text_blocks(file, header.lines):
        data = block.data
        if data[:1] == b" " or any(blanks in data for blanks in _NOT_SINGLE):
            # Numbers may be separated by any white space; pyarrow splits at single blanks.
            data = _BLANKS.sub(b" ", data).replace(b" \n", b"\n").replace(b"\n ", b"\n").strip(b" ")
        if data.strip():
            yield csv.read_csv(pa.py_buffer(data), read, parse, convert)
