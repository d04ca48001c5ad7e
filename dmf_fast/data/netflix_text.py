"""Reads the text of the Netflix Prize: a line ``MOVIEID:``, then lines ``CUSTOMER,RATING,DATE``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dmf_fast.data.bad_rows import BadRowCollector
from dmf_fast.data.chunks import Chunk, clean_chunk
from dmf_fast.data.options import ReadOptions
from dmf_fast.data.sources import RatingsFile
from dmf_fast.data.text_blocks import LineOfFile, TextBlock, count_filled, text_blocks
from dmf_fast.data.text_dialect import TextDialect
from dmf_fast.data.text_reader import parsed_pieces
from dmf_fast.data.text_table import TextColumn, TextTable, id_column

_HEADING = re.compile(rb"\d{1,18}:\r?")


def is_netflix_text(lines: list[str]) -> bool:
    """Return whether the first line that is not empty is a heading of a movie."""
    first = next((line.strip() for line in lines if line.strip()), "")
    return _HEADING.fullmatch(first.encode()) is not None


def netflix_chunks(
    file: RatingsFile, options: ReadOptions, count: int, bad_rows: BadRowCollector
) -> Iterator[Chunk]:
    """Yield ``count`` columns: customers as row ids, movies as column ids, ratings, days as times."""
    dialect = TextDialect(separator=",", names=None, width=3, skipped_lines=0, sample=[])
    columns = [id_column(0, 0, text=options.text_ids[0])]
    columns += [TextColumn(2, 1, pa.float64()), TextColumn(3, 2, pa.timestamp("us"))][: count - 2]
    table = TextTable(file, dialect, columns)
    movie = 0
    for block in text_blocks(file):
        bare, movies = _without_headings(block, movie)
        movie = int(movies[-1])
        for piece, parsed in parsed_pieces(table, bare):
            movie_ids = pa.array(movies[: len(parsed.arrays[0])])
            movies = movies[len(movie_ids) :]
            arrays = parsed.arrays | {
                1: movie_ids.cast(pa.large_string() if options.text_ids[1] else pa.int64())
            }
            place = LineOfFile(file, 0, piece.lines_before, without=_HEADING)
            in_order = [arrays[role] for role in range(count)]
            yield clean_chunk(in_order, place, bad_rows, dtype=options.dtype, problems=parsed.problems)


def _without_headings(block: TextBlock, movie: int) -> tuple[TextBlock, NDArray[np.int64]]:
    """Return the block with empty lines for headings, and the movie of every other line that is not empty.

    ``movie`` is the one of the block before. The last number returned is the movie that the block ends with,
    behind those of all lines.
    """
    data = block.data
    headings = [(start, end) for start, end in _colon_lines(data) if _HEADING.fullmatch(data[start:end])]
    bounds = [0, *(bound for heading in headings for bound in heading), len(data)]
    pieces = [data[start:end] for start, end in list(pairwise(bounds))[::2]]
    movies = [movie, *(int(data[start:end].strip(b":\r")) for start, end in headings)]
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
