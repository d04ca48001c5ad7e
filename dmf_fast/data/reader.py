"""Reads ratings of any size: every file once, in chunks, with the memory of what is kept and one chunk."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from dmf_fast.data.bad_rows import BadRowCollector
from dmf_fast.data.chunks import Chunk, Place, TextIdsFound
from dmf_fast.data.file_choice import Source, ratings_files
from dmf_fast.data.formats import ChunkSource, chunks_of_files
from dmf_fast.data.growing_array import GrowingArray
from dmf_fast.data.id_collector import IdCollector
from dmf_fast.data.options import ReadOptions
from dmf_fast.data.ratings import Pairs, Places, Ratings
from dmf_fast.data.sources import RatingsFile
from dmf_fast.data.times import warn_of_mixed_units


def read_ratings(source: Source, options: ReadOptions = ReadOptions()) -> Ratings:  # noqa: B008
    """Read ratings from a file, a folder, a .zip archive, or several of these, one after the other.

    The kind of every file is found out from its content: delimited text with or without a header (MovieLens
    ``u.data``, ``ratings.dat`` and ``ratings.csv`` and RecBole's ``.inter`` among it; the rules are those of
    `ReadOptions`), the text of the Netflix Prize, Parquet, Matrix Market and ``scipy.sparse.save_npz``; all
    may be compressed (.gz, .bz2, .xz, .zst, .lz4). Indices of Matrix Market count from 1, as in the file,
    those of ``.npz`` from 0. Which ids are integers, which are text, and which are the same one, is the rule
    of `dmf_fast.data.raw_ids`. A pipe is read once, into a temporary file; ``-`` is standard input. Of
    several files, those without entries are left out.

    Rows that cannot be used are skipped, counted and described in ``bad_rows`` of the result. Peak memory:
    12 bytes an entry (20 with times), the distinct ids and one chunk.

    Raises `DataError` where a file is missing, unreadable, empty, expands to more than 50 times its size, or
    is more bad than good where it begins, and, with ``options.strict``, at the first bad row.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "ratings.csv"
    ...     size = path.write_text(chr(10).join(["user,item,rating", "bob,7,4.5", "ann,9,3"]))
    ...     ratings = read_ratings(path)
    >>> ratings.rows.tolist(), ratings.row_ids.ids.tolist(), ratings.values.tolist()
    ([1, 0], ['ann', 'bob'], [4.5, 3.0])
    """
    return ratings_of(ratings_files(source), options)


def ratings_of(files: list[RatingsFile], options: ReadOptions) -> Ratings:
    """Return the ratings of files that are known already, as `read_ratings`."""
    return collected_ratings(chunks_of_files(files), options)


def read_pairs(source: Source, options: ReadOptions = ReadOptions()) -> Pairs:  # noqa: B008
    """Read pairs of a row id and a column id; further columns, such as ratings, are not looked at.

    Files and errors are those of `read_ratings`, and the probe and qualifying sets of the Netflix Prize, too;
    ``options.columns`` names two columns.
    """
    return _collect(chunks_of_files(ratings_files(source)), options, 2).pairs()


def collected_ratings(chunks: ChunkSource, options: ReadOptions) -> Ratings:
    """Return the ratings of all chunks, with ids of text where any of them has such."""
    return _collect(chunks, options, 4 if options.times else 3).ratings()


def _collect(chunks: ChunkSource, options: ReadOptions, count: int) -> _Collected:
    """Return what the chunks hold, read from the start again where ids turn out to be text."""
    collected = _Collected(options)
    try:
        for chunk in chunks(options, count, collected.bad_rows):
            collected.add(chunk)
        return collected
    except TextIdsFound as found:
        text_ids = (options.text_ids[0] or found.role == 0, options.text_ids[1] or found.role == 1)
    return _collect(chunks, replace(options, text_ids=text_ids), count)


class _Collected:
    """What is kept of the chunks."""

    def __init__(self, options: ReadOptions) -> None:
        self._timed = options.times
        self.bad_rows = BadRowCollector(strict=options.strict)
        self._ids = [IdCollector(text=text) for text in options.text_ids]
        self._values: GrowingArray[Any] = GrowingArray(options.dtype)
        self._times: GrowingArray[np.int64] = GrowingArray(np.int64)
        self._starts: list[int] = []
        self._places: list[Place] = []
        self._entries = 0

    def add(self, chunk: Chunk) -> None:
        self._ids[0].add(chunk.row_ids)
        self._ids[1].add(chunk.column_ids)
        if chunk.values is not None:
            self._values.append(chunk.values)
        if chunk.times is not None:
            self._times.append(chunk.times)
        self._starts.append(self._entries)
        self._places.append(chunk.place)
        self._entries += len(chunk)

    def pairs(self) -> Pairs:
        """Return the pairs; what was collected is used up."""
        (rows, row_ids), (columns, column_ids) = (ids.finish() for ids in self._ids)
        place = Places(self._starts, self._places)
        return Pairs(rows, columns, row_ids, column_ids, bad_rows=self.bad_rows.report, place=place)

    def ratings(self) -> Ratings:
        """Return the ratings; what was collected is used up."""
        times = self._times.finish() if self._timed else None
        if times is not None:
            warn_of_mixed_units(times)
        return Ratings(**vars(self.pairs()), values=self._values.finish(), times=times)
