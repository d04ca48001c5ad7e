"""Ratings of any size as row blocks: a folder from which distributed processes each read their rows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dmf_fast.checks import one_of, printable, shortened, whole_number
from dmf_fast.data.bad_rows import BadRowCollector, BadRows
from dmf_fast.data.block_files import (
    BLOCKS_FACTS,
    COLUMN_IDS,
    BlocksFacts,
    read_blocks_facts,
    row_ids_name,
)
from dmf_fast.data.block_writer import (
    BeyondType,
    BlockWriter,
    RepeatedPair,
    entries_of,
    merged_repeats,
    refused_repeats,
)
from dmf_fast.data.chunks import ROWS_A_CHUNK, Chunk, NumberedPlace, Place, TextIdsFound
from dmf_fast.data.deal import LEAST_MEGABYTES, Deal, database
from dmf_fast.data.errors import DataError
from dmf_fast.data.file_choice import Source, is_store, ratings_files
from dmf_fast.data.formats import ChunkSource, chunks_of_files
from dmf_fast.data.options import ReadOptions
from dmf_fast.files.atomic import place_of
from dmf_fast.files.digests import first_foreign, summed_folder

if TYPE_CHECKING:  # they import torch
    from dmf_fast.data.ratings import Ratings
    from dmf_fast.observations.duplicates import Duplicates

_BLOCK_BYTES = 1 << 22  # of text read at once: saves memory, but takes a fifth longer
_LONGEST_ID = 80  # in messages


def prepare_blocks(
    source: Source,
    path: str | os.PathLike[str],
    blocks: int,
    options: ReadOptions = ReadOptions(),  # noqa: B008
    *,
    duplicates: Duplicates = "error",
    memory: int = 2000,
    threads: int | None = None,
) -> BlocksFacts:
    r"""Read ratings and deal their rows to blocks, in a folder from which each process reads its own.

    Rows are sorted by their number of ratings, descending, and by id, ascending. Each in turn goes to the
    block with the fewest ratings that is not full. So the numbers of rows of all blocks differ by at most
    one, and their numbers of ratings are nearly equal. Neither all ratings nor all ids are ever in memory,
    except those of an ``.npz`` file or a store. The same ratings give the same bytes for any ``memory`` and
    ``threads``. The folder appears once it is complete, and replaces an older folder of row blocks::

        folder/blocks.json             `BlocksFacts`
               block-00000.arrow       rows (int32, the place within the block), columns (int32) and values,
                                       sorted by (row, column), in record batches of 2^20; one file per block
               row-ids-00000.parquet   the ids of the rows of a block in the order of their places
               column-ids.parquet      the sorted ids of the columns; an `IdMap`
               SHA256SUMS

    Args:
        source: files as for `read_ratings`, or a store.
        path: the folder.
        blocks: number of blocks, at most the number of rows.
        options: see `ReadOptions`; times are not kept.
        duplicates: how to handle pairs that occur more than once: ``"error"``, ``"first"``, ``"last"``,
            ``"mean"`` or ``"sum"``.
        memory: target for the memory of the process in megabytes, at least 400; the rest is kept on the disk
            of ``path``.
        threads: threads of DuckDB; None for one per processor.

    Raises:
        DataError: as for `read_ratings`; or a pair occurs more than once.
        ValueError: an argument is out of range, or there are fewer rows than blocks.
        MissingExtraError: DuckDB is not installed.
        MemoryError: ``memory`` is not enough.
        OSError: the folder cannot be written or holds other files.

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as name:
        ...     size = pathlib.Path(name, "a.csv").write_text("ann,7,4.5\nbob,7,3\nbob,9,2\n")
        ...     prepare_blocks(f"{name}/a.csv", f"{name}/blocks", 2).block_entries
        (2, 1)

    """
    one_of("duplicates", duplicates, ("error", "first", "last", "mean", "sum"))
    blocks = whole_number("blocks", blocks, least=1)
    memory = whole_number("memory", memory, least=LEAST_MEGABYTES)
    threads = None if threads is None else whole_number("threads", threads, least=1)
    path, options = Path(path), replace(options, times=False)
    refuse_foreign(path)
    read = _input(source, options)
    with summed_folder(path) as folder:
        with database(folder.parent, memory, threads) as connection:  # next to what is published
            deal, places = read.into(connection)
            deal.make(blocks, repeated=duplicates != "error")
            writer = BlockWriter(folder, blocks, deal.rows_a_block, options.dtype)
            try:
                _write_entries(deal, writer, duplicates)
            except RepeatedPair as pair:
                raise DataError(_repeated(deal, pair, places)) from None
            except BeyondType as pair:
                raise DataError(
                    f"the {duplicates} of the values of {_pair_text(deal, pair)} exceeds the range of "
                    f"{options.dtype}; choose --dtype float64, or --duplicates first or last"
                ) from None
            _write_ids(deal, folder, blocks)
        facts = BlocksFacts(
            blocks=blocks,
            rows=deal.rows,
            rows_a_block=deal.rows_a_block,
            columns=deal.columns,
            entries=sum(writer.block_entries),
            block_entries=tuple(writer.block_entries),
            dtype=options.dtype,
            largest=writer.largest,
            bad_rows=read.bad_rows,
            made_of=read.made_of | {"duplicates": duplicates},
        )
        text = json.dumps(msgspec.to_builtins(facts), indent=1)
        (folder / BLOCKS_FACTS).write_text(text + "\n", "utf-8")
        facts = read_blocks_facts(folder)
        refuse_foreign(path)  # again, as hours may have passed
    return facts


@dataclass
class _Input:
    """The input and, once it has been read, its bad rows."""

    chunks: ChunkSource
    options: ReadOptions
    made_of: dict[str, Any]
    bad_rows: BadRows = field(default_factory=BadRows)

    def into(self, connection: Any) -> tuple[Deal, list[tuple[int, Place]]]:
        """Return a deal of all entries, and the number of the first entry of every chunk with its place.

        The input is read again from the start if ids turn out to be text.
        """
        deal = Deal(connection, self.options.text_ids, self.options.dtype)
        collector = BadRowCollector(strict=self.options.strict)
        places = []
        try:
            for chunk in self.chunks(self.options, 3, collector):
                places.append((deal.entries, chunk.place))
                deal.add(chunk)
        except TextIdsFound as found:
            rows, columns = self.options.text_ids
            text_ids = (rows or found.role == 0, columns or found.role == 1)
            self.options = replace(self.options, text_ids=text_ids)
            return self.into(connection)
        self.bad_rows = collector.report if collector.report else self.bad_rows
        pa.default_memory_pool().release_unused()  # DuckDB needs it now
        return deal, places


def _input(source: Source, options: ReadOptions) -> _Input:
    """Return the input for files or for a store; ids and values of a store are taken unchanged."""
    if isinstance(source, (str, os.PathLike)) and is_store(source):
        from dmf_fast.data.store import load_ratings  # here, as it imports torch

        ratings = load_ratings(source)
        options = replace(options, text_ids=(ratings.row_ids.holds_text, ratings.column_ids.holds_text))
        name = printable(source)
        made_of = {"files": [[Path(source).name, len(ratings)]], "options": asdict(options)}
        return _Input(_chunks_of_store(name, ratings), options, made_of, ratings.bad_rows)
    if isinstance(source, (str, os.PathLike)) and (Path(source) / BLOCKS_FACTS).is_file():
        raise DataError(f"{printable(source)} is already a folder of row blocks; name files of ratings")
    files = [replace(file, block_bytes=_BLOCK_BYTES) for file in ratings_files(source)]
    made_of = {"files": [[file.name, file.stored_bytes] for file in files], "options": asdict(options)}
    return _Input(chunks_of_files(files), options, made_of)


def _chunks_of_store(name: str, ratings: Ratings) -> ChunkSource:
    def chunks(options: ReadOptions, count: int, bad_rows: BadRowCollector) -> Iterator[Chunk]:
        if not len(ratings):
            raise DataError(f"{name} holds no entries: at least one was expected; name another")
        for start in range(0, len(ratings), ROWS_A_CHUNK):
            part = slice(start, start + ROWS_A_CHUNK)
            ids = ratings.row_ids.ids_at(ratings.rows[part]), ratings.column_ids.ids_at(ratings.columns[part])
            yield Chunk(
                *ids, ratings.values[part].astype(np.float64), None, NumberedPlace(name, "entry", start)
            )

    return chunks


def _write_entries(deal: Deal, writer: BlockWriter, duplicates: Duplicates) -> None:
    batches = map(entries_of, deal.sorted_entries())
    one_each = refused_repeats(batches) if duplicates == "error" else merged_repeats(batches, duplicates)
    for entries in one_each:
        writer.add(entries)
    writer.finish()


def _write_ids(deal: Deal, folder: Path, blocks: int) -> None:
    _write_id_file(folder / COLUMN_IDS, deal.id_schema(1), deal.column_ids())
    for block in range(blocks):
        _write_id_file(folder / row_ids_name(block), deal.id_schema(0), deal.row_ids(block))


def _write_id_file(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    with pq.ParquetWriter(path, schema) as file:
        for batch in batches:
            file.write_batch(batch)


def _repeated(deal: Deal, pair: RepeatedPair, starts: list[tuple[int, Place]]) -> str:
    from dmf_fast.data.ratings import Places  # here, as it imports torch

    place = Places(*zip(*starts, strict=True))
    return (
        f"{place(pair.second)}: the pair {_pair_text(deal, pair)} already occurs at {place(pair.first)}; "
        "remove one, or choose with --duplicates first, last, mean or sum"
    )


def _pair_text(deal: Deal, pair: RepeatedPair | BeyondType) -> str:
    return f"({', '.join(shortened(one, _LONGEST_ID) for one in deal.pair(pair.slot, pair.column))})"


def refuse_foreign(path: Path) -> None:
    """Raise a `FileExistsError` if a folder holds files that do not belong to row blocks.

    >>> refuse_foreign(Path("no/such/folder"))
    """
    foreign = first_foreign(place_of(path), BLOCKS_FACTS)
    if foreign is not None:
        raise FileExistsError(
            f"{printable(path)} holds {printable(foreign)}, which does not belong to row blocks, so the "
            "folder is not replaced; name another folder or move that file away"
        )
