"""Writes entries, sorted by block, to one file per block, and merges repeated pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dmf_fast.data.block_files import ROWS_A_BATCH, block_name


class RepeatedPair(Exception):
    """A pair occurs more than once, first as the entries number ``first`` and ``second``."""

    def __init__(self, slot: int, column: int, first: int, second: int) -> None:
        super().__init__(f"entries {first} and {second} are one pair")
        self.slot, self.column, self.first, self.second = slot, column, first, second


class BeyondType(Exception):
    """The values of a repeated pair combine to a value that their dtype cannot hold."""

    def __init__(self, slot: int, column: int) -> None:
        super().__init__("a combined value exceeds its dtype")
        self.slot, self.column = slot, column


class DealtEntries(NamedTuple):
    """Entries sorted by (slot, column): int64, int64 and floating point.

    ``numbers`` are their positions in the input or, after merging, how often each pair occurred.
    """

    slots: NDArray[Any]
    columns: NDArray[Any]
    values: NDArray[Any]
    numbers: NDArray[Any]

    def at(self, chosen: Any) -> DealtEntries:
        """Return some of the entries."""
        return DealtEntries(*(array[chosen] for array in self))


def entries_of(batch: pa.RecordBatch) -> DealtEntries:
    """Return the columns of a batch of `Deal.sorted_entries`."""
    return DealtEntries(*(column.to_numpy() for column in batch.columns))


def refused_repeats(batches: Iterable[DealtEntries]) -> Iterator[DealtEntries]:
    """Yield the batches unchanged; at the end, raise `RepeatedPair` for the first repeated pair, if any."""
    before: DealtEntries | None = None
    found: RepeatedPair | None = None
    for batch in batches:
        seen = batch if before is None else _joined(before, batch)
        repeats = np.flatnonzero(~_begins(seen))
        if len(repeats):
            place = int(repeats[np.argmin(seen.numbers[repeats])])
            second = int(seen.numbers[place])
            if found is None or second < found.second:
                first = int(seen.numbers[place - 1])
                found = RepeatedPair(int(seen.slots[place]), int(seen.columns[place]), first, second)
        before = batch.at(slice(-1, None))
        yield batch
    if found is not None:
        raise found


def merged_repeats(batches: Iterable[DealtEntries], duplicates: str) -> Iterator[DealtEntries]:
    """Yield every pair once, with its first or last value, or the mean or sum of all its values.

    Raises `BeyondType` if a mean or sum is not finite in the dtype of the values.
    """
    last: DealtEntries | None = None
    dtype: np.dtype[Any] = np.dtype(np.float64)
    for batch in batches:
        dtype = batch.values.dtype
        runs = _runs(batch, duplicates)
        if last is not None:
            runs = _runs_joined(last, runs, duplicates)
        last = runs.at(slice(-1, None))  # the next batch may continue it
        yield _combined(runs.at(slice(0, -1)), duplicates, dtype)
    if last is not None:
        yield _combined(last, duplicates, dtype)


def _begins(entries: DealtEntries) -> NDArray[np.bool_]:
    """Return which entries are the first of their pair."""
    begins = np.ones(len(entries.slots), dtype=np.bool_)
    begins[1:] = (entries.slots[1:] != entries.slots[:-1]) | (entries.columns[1:] != entries.columns[:-1])
    return begins


def _joined(one: DealtEntries, other: DealtEntries) -> DealtEntries:
    return DealtEntries(*(np.concatenate(pair) for pair in zip(one, other, strict=True)))


def _runs(entries: DealtEntries, duplicates: str) -> DealtEntries:
    """Return every pair once, with its count and its first value, last value or float64 sum."""
    starts = np.flatnonzero(_begins(entries))
    counts = np.diff(starts, append=len(entries.slots))
    if duplicates in ("mean", "sum"):
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.add.reduceat(entries.values.astype(np.float64), starts)
    else:
        values = entries.values[starts if duplicates == "first" else starts + counts - 1]
    return DealtEntries(entries.slots[starts], entries.columns[starts], values, counts)


def _runs_joined(last: DealtEntries, runs: DealtEntries, duplicates: str) -> DealtEntries:
    """Return the last run of the previous batch followed by ``runs``, whose first run may continue it."""
    if (last.slots[0], last.columns[0]) != (runs.slots[0], runs.columns[0]):
        return _joined(last, runs)
    runs.numbers[0] += last.numbers[0]
    if duplicates == "first":
        runs.values[0] = last.values[0]
    elif duplicates != "last":
        with np.errstate(over="ignore", invalid="ignore"):
            runs.values[0] += last.values[0]
    return runs


def _combined(runs: DealtEntries, duplicates: str, dtype: np.dtype[Any]) -> DealtEntries:
    values = runs.values
    if duplicates in ("mean", "sum"):
        with np.errstate(over="ignore", invalid="ignore"):
            values = (values / runs.numbers if duplicates == "mean" else values).astype(dtype)
        beyond = np.flatnonzero(~np.isfinite(values))
        if len(beyond):
            raise BeyondType(int(runs.slots[beyond[0]]), int(runs.columns[beyond[0]]))
    return runs._replace(values=values)


class BlockWriter:
    """Writes the files of the blocks to ``folder``, one after the other.

    Attributes:
        block_entries: number of entries of each block so far.
        largest: largest absolute value so far.

    """

    def __init__(self, folder: Path, blocks: int, rows_a_block: int, dtype: str) -> None:
        """Start without a file; entries must be added in the order of their slots."""
        self.block_entries = [0] * blocks
        self.largest = 0.0
        self._folder = folder
        self._rows_a_block = rows_a_block
        self._arrays: dict[str, NDArray[Any]] = {
            "rows": np.empty(ROWS_A_BATCH, np.int32),
            "columns": np.empty(ROWS_A_BATCH, np.int32),
            "values": np.empty(ROWS_A_BATCH, dtype),
        }
        self._schema = pa.schema({name: pa.from_numpy_dtype(a.dtype) for name, a in self._arrays.items()})
        self._filled = 0
        self._block = -1
        self._file: Any = None

    def add(self, entries: DealtEntries) -> None:
        """Append entries to the files of their blocks."""
        if not len(entries.slots):
            return
        self.largest = max(self.largest, float(np.abs(entries.values).max()))
        blocks = entries.slots // self._rows_a_block
        starts = np.flatnonzero(np.diff(blocks, prepend=-1))
        for start, end in pairwise([*starts.tolist(), len(blocks)]):
            block = int(blocks[start])
            if block != self._block:
                self._begin(block)
            self._append(entries.at(slice(start, end)), block * self._rows_a_block)

    def finish(self) -> None:
        """Write the remaining entries."""
        self._begin(len(self.block_entries))

    def _begin(self, block: int) -> None:
        """Close the file of the previous block and open that of the next; every block has entries."""
        if self._file is not None:
            self._write()
            self._file.close()
        self._block, self._file = block, None
        if block < len(self.block_entries):
            self._file = pa.ipc.new_file(str(self._folder / block_name(block)), self._schema)

    def _append(self, entries: DealtEntries, first_slot: int) -> None:
        self.block_entries[self._block] += len(entries.slots)
        while len(entries.slots):
            part = entries.at(slice(0, ROWS_A_BATCH - self._filled))
            place = slice(self._filled, self._filled + len(part.slots))
            self._arrays["rows"][place] = part.slots - first_slot
            self._arrays["columns"][place] = part.columns
            self._arrays["values"][place] = part.values
            self._filled = place.stop
            if self._filled == ROWS_A_BATCH:
                self._write()
            entries = entries.at(slice(len(part.slots), None))

    def _write(self) -> None:
        if self._filled:
            arrays = [pa.array(array[: self._filled]) for array in self._arrays.values()]
            self._file.write_batch(pa.record_batch(arrays, schema=self._schema))
        self._filled = 0
