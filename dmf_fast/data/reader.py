"""Reads ratings of any size: every file once, in chunks, with memory for the result and one chunk."""

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

    The kind of every file is detected from its content: delimited text with or without a header (such as
    MovieLens ``u.data``, ``ratings.dat`` and ``ratings.csv`` and RecBole's ``.inter``; see `ReadOptions` for
    the rules), the text of the Netflix Prize, Parquet, Matrix Market and ``scipy.sparse.save_npz``. All may
    be compressed (.gz, .bz2, .xz, .zst, .lz4). Indices of Matrix Market count from 1, as in the file, those
    of ``.npz`` from 0. Ids follow the rules of `dmf_fast.data.raw_ids`. A pipe is read once, into a temporary
    file; ``-`` is standard input. Of several files, those without entries are skipped.

    Unusable rows are skipped, counted and described in ``bad_rows`` of the result. Peak memory is 12 bytes
    per entry (20 with times), the distinct ids and one chunk.

    Args:
        source: a path, or several.
        options: see `ReadOptions`.

    Returns:
        The ratings, by index, in the order of the files.

    Raises:
        DataError: a file is missing, unreadable or empty, expands to more than 50 times its size, or begins
            with more bad rows than good ones; with ``options.strict``, there is a bad row.

    Example:
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
    """Return the ratings of files, as `read_ratings` does."""
    return collected_ratings(chunks_of_files(files), options)


def read_pairs(source: Source, options: ReadOptions = ReadOptions()) -> Pairs:  # noqa: B008
    """Read pairs of a row id and a column id; further columns, such as ratings, are ignored.

    Args:
        source: files as for `read_ratings`, or the probe or qualifying set of the Netflix Prize.
        options: see `ReadOptions`; ``columns`` names two columns.

    Raises:
        DataError: as for `read_ratings`.

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "pairs.csv"
        ...     size = path.write_text(chr(10).join(["user,item", "bob,7", "ann,9"]))
        ...     read_pairs(path)
        Pairs(2 of shape (2, 2), 0 bad rows)

    """
    return _collect(chunks_of_files(ratings_files(source)), options, 2).pairs()


def collected_ratings(chunks: ChunkSource, options: ReadOptions) -> Ratings:
    """Return the ratings of all chunks, with text ids if any chunk has text ids."""
    return _collect(chunks, options, 4 if options.times else 3).ratings()


def _collect(chunks: ChunkSource, options: ReadOptions, count: int) -> _Collected:
    """Return the content of the chunks, read again from the start if ids turn out to be text."""
    collected = _Collected(options)
    try:
        for chunk in chunks(options, count, collected.bad_rows):
            collected.add(chunk)
        return collected
    except TextIdsFound as found:
        text_ids = (options.text_ids[0] or found.role == 0, options.text_ids[1] or found.role == 1)
    return _collect(chunks, replace(options, text_ids=text_ids), count)


class _Collected:
    """Collects the content of chunks."""

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
        """Return the pairs; the collection is used up."""
        (rows, row_ids), (columns, column_ids) = (ids.finish() for ids in self._ids)
        place = Places(self._starts, self._places)
        return Pairs(rows, columns, row_ids, column_ids, bad_rows=self.bad_rows.report, place=place)

    def ratings(self) -> Ratings:
        """Return the ratings; the collection is used up."""
        times = self._times.finish() if self._timed else None
        if times is not None:
            warn_of_mixed_units(times)
        return Ratings(**vars(self.pairs()), values=self._values.finish(), times=times)
