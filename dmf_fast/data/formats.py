"""Finds out the kind of a file from its content, and reads it."""

from __future__ import annotations

from collections.abc import Iterator

from dmf_fast.data.bad_rows import BadRowCollector
from dmf_fast.data.chunks import Chunk
from dmf_fast.data.errors import DataError, EmptyFileError
from dmf_fast.data.matrix_file import npz_chunks
from dmf_fast.data.matrix_market import matrix_market_chunks
from dmf_fast.data.netflix_text import is_netflix_text, netflix_chunks
from dmf_fast.data.options import ReadOptions
from dmf_fast.data.parquet_table import parquet_chunks
from dmf_fast.data.sources import ZIP_STARTS, RatingsFile
from dmf_fast.data.text_dialect import first_lines
from dmf_fast.data.text_reader import text_chunks
from dmf_fast.files.reading import reading


def chunks_of(
    file: RatingsFile, options: ReadOptions, count: int, bad_rows: BadRowCollector
) -> Iterator[Chunk]:
    """Yield ``count`` columns (row ids, column ids, values, times) of a file of any known kind.

    Raises a `DataError` that names the file where it is not one, an `EmptyFileError` where it is empty.
    """
    with reading(file, "a file of ratings", "check it", DataError):
        start = file.first_bytes(16)
    if not start:
        raise EmptyFileError(
            f"{file} is empty (0 bytes): row, column and value were expected; check the file"
        )
    kind, advice, read = "a text table", "save it as one, UTF-8", _text_chunks
    if start.startswith(b"PAR1"):
        kind, advice, read = "a Parquet file", "write it again", parquet_chunks
    elif start.startswith(ZIP_STARTS):
        kind, advice, read = "a sparse matrix of scipy.sparse.save_npz", "write it again", npz_chunks
    elif start.startswith(b"%%MatrixMarket") or file.name.endswith(".mtx"):
        kind, advice, read = "a Matrix Market file", "write it again", matrix_market_chunks
    for ending in (".parquet", ".npz"):
        if read is _text_chunks and file.name.endswith(ending):
            raise DataError(f"{file} is not a {ending} file (its first bytes say otherwise); write it again")
    try:
        with reading(file, kind, advice, DataError):
            yield from read(file, options, count, bad_rows)
    except EmptyFileError:
        raise
    except DataError as error:
        if file.partitions and read is _text_chunks:
            folders = ", ".join(f"'{name}={value}'" for name, value in file.partitions)
            raise DataError(
                f"{error} (columns named by folders, {folders} here, are read only of Parquet)"
            ) from None
        raise


def _text_chunks(
    file: RatingsFile, options: ReadOptions, count: int, bad_rows: BadRowCollector
) -> Iterator[Chunk]:
    lines = first_lines(file, options.encoding)
    if is_netflix_text(lines):
        return netflix_chunks(file, lines, options, count, bad_rows)
    return text_chunks(file, lines, options, count, bad_rows)
