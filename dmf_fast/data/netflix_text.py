"""Reads the text of the Netflix Prize: a line ``MOVIE:``, then lines ``CUSTOMER,RATING,DATE``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dmf_fast.data.bad_rows import BadRowCollector
from dmf_fast.data.chunks import Chunk, clean_chunk
from dmf_fast.data.errors import DataError, shown
from dmf_fast.data.options import ReadOptions
from dmf_fast.data.sources import RatingsFile
from dmf_fast.data.text_blocks import TextBlock, count_filled, text_blocks
from dmf_fast.data.text_dialect import TextDialect
from dmf_fast.data.text_reader import parsed_pieces
from dmf_fast.data.text_table import TextColumn, TextTable, id_column

_HEADING = re.compile(rb"[ \t]*(0|[1-9]\d{0,17})[ \t]*:[ \t]*\r?")


def is_netflix_text(lines: list[str]) -> bool:
    """Return whether the first nonempty line is the heading of a movie."""
    first = next((line for line in lines if line.strip()), "")
    return _HEADING.fullmatch(first.encode()) is not None


def netflix_chunks(
    file: RatingsFile, lines: list[str], options: ReadOptions, count: int, bad_rows: BadRowCollector
) -> Iterator[Chunk]:
    """Yield ``count`` columns: customers as row ids, movies as column ids, ratings, days as times.

    Pairs may also be written as ``CUSTOMER,DATE`` (the qualifying set) or ``CUSTOMER`` (the probe set).
    """
    first = next((line for line in lines if line.strip() and not _HEADING.fullmatch(line.encode())), ",,")
    width = first.count(",") + 1
    if count > 2 and width < 3:
        raise DataError(
            f"{file} holds Netflix pairs without ratings, such as {shown(first)} below a movie; read them "
            "with dmf-fast predict or read_pairs"
        )
    dialect = TextDialect(separator=",", names=None, width=width, skipped_lines=0, sample=[])
    columns = [id_column(0, 0, text=options.text_ids[0])]
    columns += [TextColumn(2, 1, pa.float64()), TextColumn(3, 2, pa.timestamp("us"))][: count - 2]
    table = TextTable(file, dialect, columns, options.encoding, without=_HEADING)
    movie = 0
    for block in text_blocks(file, encoding=options.encoding):
        bare, movies = _without_headings(file, block, movie)
        movie = int(movies[-1])
        for piece, parsed in parsed_pieces(table, bare):
            movie_ids = pa.array(movies[: len(parsed.arrays[0])])
            movies = movies[len(movie_ids) :]
            arrays = parsed.arrays | {
                1: movie_ids.cast(pa.large_string() if options.text_ids[1] else pa.int64())
            }
            place = table.place(piece.lines_before)
            in_order = [arrays[role] for role in range(count)]
            yield clean_chunk(in_order, place, bad_rows, dtype=options.dtype, problems=parsed.problems)


def _without_headings(file: RatingsFile, block: TextBlock, movie: int) -> tuple[TextBlock, NDArray[np.int64]]:
    """Return the block with empty lines in place of headings, and the movie of every other nonempty line.

    ``movie`` is the last movie of the previous block. The movies of the lines are followed by the last movie
    of the block.
    """
    data = block.data
    headings = []
    for start, end in _colon_lines(data):
        if _HEADING.fullmatch(data[start:end]):
            headings.append((start, end))
        elif data[start:end].rstrip().endswith(b":"):
            line = block.lines_before + data[:start].count(b"\n") + 1
            raise DataError(
                f"{file}, line {line}: a heading MOVIE: with a whole number was expected, got "
                f"{shown(data[start:end].decode(errors='replace'))}; fix it, as the lines below belong to it"
            )
    bounds = [0, *(bound for heading in headings for bound in heading), len(data)]
    pieces = [data[start:end] for start, end in list(pairwise(bounds))[::2]]
    movies = [movie, *(int(data[start:end].strip(b": \t\r")) for start, end in headings)]
    counts = [count_filled(piece.removeprefix(b"\n")) for piece in pieces]  # the end of a heading
    counts[-1] += 1
    return TextBlock(b"".join(pieces), block.lines_before), np.repeat(np.array(movies, np.int64), counts)


def _colon_lines(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the bounds of every line with a colon, without its line feed."""
    colon = data.find(b":")
    while colon >= 0:
        end = data.find(b"\n", colon)
        end = len(data) if end < 0 else end
        yield data.rfind(b"\n", 0, colon) + 1, end
        colon = data.find(b":", end)
