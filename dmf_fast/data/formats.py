"""Finds out the kind of a file from its content, and reads it."""

from __future__ import annotations

from collections.abc import Iterator

from dmf_fast.data.bad_rows import BadRowCollector
from dmf_fast.data.batches import Batch
from dmf_fast.data.errors import DataError
from dmf_fast.data.matrix_file import matrix_batches, read_matrix_market, read_scipy_npz
from dmf_fast.data.netflix_text import is_netflix_text, netflix_batches
from dmf_fast.data.options import ReadOptions
from dmf_fast.data.parquet_table import parquet_batches
from dmf_fast.data.sources import RatingsFile
from dmf_fast.data.text_dialect import first_lines
from dmf_fast.data.text_reader import text_batches


def batches_of(
    file: RatingsFile, options: ReadOptions, count: int, bad_rows: BadRowCollector
) -> Iterator[Batch]:
    """Yield ``count`` columns (row ids, column ids, values, times) of a file of any known kind."""
    start = file.first_bytes(16, decompressed=False)
    if not start:
        raise DataError(f"{file} is empty (0 bytes): row, column and value were expected; check the file.")
    if start.startswith(b"PAR1"):
        return parquet_batches(file, options, count, bad_rows)
    if start.startswith(b"PK\x03\x04"):
        return matrix_batches(str(file), read_scipy_npz(file), options, count, bad_rows)
    if start.startswith(b"%%MatrixMarket") or file.name.endswith(".mtx"):
        return matrix_batches(str(file), read_matrix_market(file), options, count, bad_rows)
    for ending in (".parquet", ".npz"):
        if file.name.endswith(ending):
            raise DataError(f"{file} is not a {ending} file (its first bytes say otherwise); write it again.")
    lines = first_lines(file)
    if is_netflix_text(lines):
        return netflix_batches(file, options, count, bad_rows)
    return text_batches(file, lines, options, count, bad_rows)
