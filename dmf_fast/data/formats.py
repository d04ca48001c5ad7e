"""Detects the kind of a file from its content, and reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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

ChunkSource = Callable[[ReadOptions, int, BadRowCollector], Iterator[Chunk]]
"""A function that yields chunks with the requested number of columns."""


def chunks_of(
    file: RatingsFile, options: ReadOptions, count: int, bad_rows: BadRowCollector
) -> Iterator[Chunk]:
    """Yield ``count`` columns (row ids, column ids, values, times) of a file of any known kind.

    Raises a `DataError` that names the file if it cannot be read, an `EmptyFileError` if it is empty.
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
            raise DataError(f"{file} is not a {ending} file, judging by its first bytes; write it again")
    try:
        with reading(file, kind, advice, DataError):
            yield from read(file, options, count, bad_rows)
    except EmptyFileError:
        raise
    except DataError as error:
        if file.partitions and read is _text_chunks:
            folders = ", ".join(f"'{name}={value}'" for name, value in file.partitions)
            raise DataError(
                f"{error} (columns named by folders, here {folders}, are supported for Parquet only)"
            ) from None
        raise


def chunks_of_files(files: list[RatingsFile]) -> ChunkSource:
    """Return a function that yields the chunks of all ``files``, one after the other, at every call.

    It raises as `chunks_of` does, but skips empty files among several; a `DataError` if no file holds an
    entry.
    """

    def chunks(options: ReadOptions, count: int, bad_rows: BadRowCollector) -> Iterator[Chunk]:
        there_are_entries = False
        empty: EmptyFileError | None = None
        for file in files:
            bad_rows.start_file()
            try:
                for chunk in chunks_of(file, options, count, bad_rows):
                    there_are_entries |= len(chunk) > 0
                    yield chunk
            except EmptyFileError as error:  # a part that a cluster left empty
                empty = error
            bad_rows.finish_file()
        if there_are_entries:
            return
        if empty is not None and len(files) == 1:
            raise empty
        others = "" if len(files) == 1 else f", and neither do the other {len(files) - 1}"
        raise DataError(f"{files[0]} holds no entries{others}: at least one was expected; check the file")

    return chunks


def _text_chunks(
    file: RatingsFile, options: ReadOptions, count: int, bad_rows: BadRowCollector
) -> Iterator[Chunk]:
    lines = first_lines(file, options.encoding)
    if is_netflix_text(lines):
        return netflix_chunks(file, lines, options, count, bad_rows)
    return text_chunks(file, lines, options, count, bad_rows)
