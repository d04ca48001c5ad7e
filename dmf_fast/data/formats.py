"""Finds out the kind of a file from its content, and reads it."""

from __future__ import annotations

from collections.abc import Iterator

from dmf_fast.data.bad_rows import BadRowCollector
from dmf_fast.data.chunks import Chunk
from dmf_fast.data.errors import DataError
from dmf_fast.data.matrix_file import matrix_chunks, read_matrix_market, read_scipy_npz
from dmf_fast.data.netflix_text import is_netflix_text, netflix_chunks
from dmf_fast.data.options import ReadOptions
from dmf_fast.data.parquet_table import parquet_batches
from dmf_fast.data.sources import RatingsFile
from dmf_fast.data.text_dialect import first_lines
from dmf_fast.data.text_reader import text_chunks


def chunks_of(
    file: RatingsFile, options: ReadOptions, count: int, bad_rows: BadRowCollector
) -> Iterator[Chunk]:
    """Yield ``count`` columns (row ids, column ids, values, times) of a file of any known kind."""
    start = file.first_bytes(16, decompressed=False)
    if not start:
        raise DataError(f"{file} is empty (0 bytes): row, column and value were expected; check the file")
    if start.startswith(b"PAR1"):
        return parquet_batches(file, options, count, bad_rows)
    if start.startswith(b"PK\x03\x04"):
        return matrix_chunks(str(file), read_scipy_npz(file), 0, options, count, bad_rows)
    if start.startswith(b"%%MatrixMarket") or file.name.endswith(".mtx"):
        return matrix_chunks(str(file), read_matrix_market(file), 1, options, count, bad_rows)
    for ending in (".parquet", ".npz"):
        if file.name.endswith(ending):
            raise DataError(f"{file} is not a {ending} file (its first bytes say otherwise); write it again")
    lines = first_lines(file)
    if is_netflix_text(lines):
        return netflix_chunks(file, options, count, bad_rows)
    return text_chunks(file, lines, options, count, bad_rows)
