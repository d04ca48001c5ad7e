"""Deals rows to blocks out of core, in DuckDB: distinct ids, the deal, and entries in its order."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from heapq import heappop, heapreplace
from importlib import import_module
from pathlib import Path
from types import FrameType, ModuleType, TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dmf_fast.data.arrow_types import decoded_type, is_text
from dmf_fast.data.block_files import ROWS_A_BATCH
from dmf_fast.data.chunks import Chunk, TextIdsFound
from dmf_fast.extras import require
from dmf_fast.training.interrupt import DeferredInterrupt

_FETCHED_ROWS = 1 << 17
_DEALT_ROWS = 1 << 17
_SQL_TYPES = {"float32": "FLOAT", "float64": "DOUBLE"}
# Memory of the process that DuckDB does not count, and the share of the rest that DuckDB may use.
_OTHER_MEGABYTES, _COUNTED = 275, 0.8
_MEGABYTES_A_THREAD = 125  # needed by DuckDB to sort and join long ids on disk
LEAST_MEGABYTES = 400


class Deal:
    """A table of entries on disk, from which rows are dealt to blocks.

    Rows are dealt by number of entries, descending, and id, ascending; see `Hands`. The place of a row is the
    number of rows dealt to its block before it; its slot is ``block * rows_a_block + place``.
    """

    def __init__(self, connection: Any, text_ids: tuple[bool, bool], dtype: str) -> None:
        """Start without entries; ids are text or integers, and ``dtype`` is that of the values."""
        self._connection = connection
        self._ids = [pa.large_string() if text else pa.int64() for text in text_ids]
        self._dtype = dtype
        self.entries = self.rows = self.columns = self.rows_a_block = 0
        row_id, column_id = ("VARCHAR" if text else "BIGINT" for text in text_ids)
        connection.execute(
            f"CREATE OR REPLACE TABLE entries (row_id {row_id}, column_id {column_id}, "
            f"value {_SQL_TYPES[dtype]}, number BIGINT)"
        )

    def add(self, chunk: Chunk) -> None:
        """Append entries; text ids raise `TextIdsFound` if ids are integers so far."""
        assert chunk.values is not None
        with np.errstate(over="ignore"):
            values = chunk.values.astype(self._dtype)
        if not np.isfinite(values).all():  # from a float64 store; readers have checked already
            raise ValueError(f"values must be finite as {self._dtype}; choose --dtype float64")
        numbers = np.arange(self.entries, self.entries + len(chunk))
        ids = (self._kept(role, ids) for role, ids in enumerate((chunk.row_ids, chunk.column_ids)))
        table = pa.table(
            [*ids, pa.array(values), pa.array(numbers)], ["row_id", "column_id", "value", "number"]
        )
        self._connection.register("chunk", table)
        self._connection.execute("INSERT INTO entries SELECT * FROM chunk")
        self._connection.unregister("chunk")
        self.entries += len(chunk)

    def make(self, blocks: int, *, repeated: bool) -> None:
        """Find the ids and deal the rows to ``blocks``; if pairs may be ``repeated``, each counts once.

        Raises a `ValueError` if there are fewer rows than blocks.
        """
        # A window without an order numbers rows as they arrive and buffers none of them.
        self._execute(
            "CREATE OR REPLACE TABLE column_indices AS SELECT row_number() OVER () - 1 AS index, column_id "
            "FROM (SELECT DISTINCT column_id FROM entries ORDER BY column_id)"
        )
        pairs = "(SELECT DISTINCT row_id, column_id FROM entries)" if repeated else "entries"
        self._execute(
            "CREATE OR REPLACE TABLE ranks AS SELECT row_number() OVER () - 1 AS rank, row_id, number FROM "
            f"(SELECT row_id, count(*) AS number FROM {pairs} GROUP BY row_id ORDER BY number DESC, row_id)"
        )
        self.rows, self.columns = self._count("ranks"), self._count("column_indices")
        if blocks > self.rows:
            raise ValueError(f"`blocks` must be at most the number of rows, {self.rows}, got {blocks}")
        self.rows_a_block = -(-self.rows // blocks)
        if max(self.rows_a_block, self.columns) >= 2**31:
            raise ValueError(
                f"blocks must have fewer than 2^31 rows and columns, got {self.rows_a_block} and "
                f"{self.columns}; use more blocks, or drop columns"
            )
        self._deal_ranks(blocks)
        # Both tables are in the order of the ranks: no other join needs so little memory.
        self._execute(
            "CREATE OR REPLACE TABLE row_slots AS SELECT row_id, slot FROM ranks POSITIONAL JOIN dealt "
            "ORDER BY slot"
        )
        self._execute("DROP TABLE ranks")
        self._execute("DROP TABLE dealt")

    def sorted_entries(self) -> Iterator[pa.RecordBatch]:
        """Yield ``slot``, column ``index``, ``value`` and ``number``, sorted by slot, index and number.

        ``number`` is the position in the order of addition. Batches have a fixed number of rows.
        """
        return self._batches(
            "SELECT slot, index, value, number FROM entries JOIN row_slots USING (row_id) "
            "JOIN column_indices USING (column_id) ORDER BY slot, index, number",
            _FETCHED_ROWS,
        )

    def id_schema(self, role: int) -> pa.Schema:
        """Return the schema of the ids of rows (``role`` 0) or columns (1)."""
        return pa.schema({"id": self._ids[role]})

    def row_ids(self, block: int) -> Iterator[pa.RecordBatch]:
        """Yield the ``id`` of the rows of a block in the order of their places."""
        first, end = block * self.rows_a_block, (block + 1) * self.rows_a_block
        return self._batches(
            f"SELECT row_id AS id FROM row_slots WHERE slot >= {first} AND slot < {end} ORDER BY slot",
            ROWS_A_BATCH,
            self.id_schema(0),
        )

    def column_ids(self) -> Iterator[pa.RecordBatch]:
        """Yield the ``id`` of all columns, sorted."""
        return self._batches(
            "SELECT column_id AS id FROM column_indices ORDER BY index", ROWS_A_BATCH, self.id_schema(1)
        )

    def pair(self, slot: int, index: int) -> tuple[str, str]:
        """Return the ids of a row and a column as text."""
        (row,) = self._execute("SELECT row_id FROM row_slots WHERE slot = ?", [slot]).fetchone()
        (column,) = self._execute("SELECT column_id FROM column_indices WHERE index = ?", [index]).fetchone()
        return str(row), str(column)

    def _deal_ranks(self, blocks: int) -> None:
        """Create the table with the slot of every rank, in the order of ranks."""
        self._execute("CREATE OR REPLACE TABLE dealt (slot BIGINT)")
        hands = Hands(self.rows, blocks)
        for begin in range(0, self.rows, _DEALT_ROWS):
            end = begin + _DEALT_ROWS
            query = f"SELECT number FROM ranks WHERE rank >= {begin} AND rank < {end} ORDER BY rank"
            numbers = self._execute(query).fetchnumpy()["number"]
            self._connection.register("part", pa.table({"slot": hands.slots(numbers)}))
            self._execute("INSERT INTO dealt SELECT * FROM part")
            self._connection.unregister("part")

    def _kept(self, role: int, ids: pa.Array) -> pa.Array:
        """Return ids converted to the type of the table."""
        if is_text(decoded_type(ids.type)):
            if self._ids[role] == pa.int64():
                raise TextIdsFound(role)
            return ids
        return ids.cast(self._ids[role])

    def _execute(self, query: str, values: list[Any] | None = None) -> Any:
        return self._connection.execute(query, values)

    def _count(self, table: str) -> int:
        return int(self._execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def _batches(self, query: str, rows: int, schema: pa.Schema | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the result of a query in batches of exactly ``rows`` rows, except the last."""
        reader = self._connection.sql(query).to_arrow_reader(min(rows, _FETCHED_ROWS))
        schema = reader.schema if schema is None else schema
        waiting: list[pa.RecordBatch] = []
        for batch in reader:
            waiting.append(batch.cast(schema))
            while sum(map(len, waiting)) >= rows:
                table = pa.Table.from_batches(waiting, schema)
                yield table.slice(0, rows).combine_chunks().to_batches()[0]
                waiting = table.slice(rows).to_batches()
        yield from pa.Table.from_batches(waiting, schema).combine_chunks().to_batches()


class Hands:
    """Blocks to which rows are dealt, one after the other, each to the block with the fewest entries so far.

    The numbers of rows of all blocks differ by at most one: blocks with rows of many entries are filled up
    with rows of few entries. This is longest-processing-time-first scheduling.

    >>> hands = Hands(rows=5, blocks=2)
    >>> hands.slots(np.array([9, 5, 3, 2, 1])).tolist()
    [0, 3, 4, 5, 1]
    """

    def __init__(self, rows: int, blocks: int) -> None:
        """Start with empty blocks, to which ``rows`` rows will be dealt."""
        self._places = -(-rows // blocks)
        self._last_places = rows - blocks * (self._places - 1)  # number of blocks that are filled completely
        self._dealt = [0] * blocks
        self._fewest_first = [(0, block) for block in range(blocks)]

    def slots(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the slots of the next rows, given their numbers of entries in descending order."""
        slots = []
        heap, dealt = self._fewest_first, self._dealt
        for number in numbers.tolist():
            while dealt[heap[0][1]] >= self._places - (not self._last_places):
                heappop(heap)  # it is full
            entries, block = heap[0]
            slots.append(block * self._places + dealt[block])
            dealt[block] += 1
            self._last_places -= dealt[block] == self._places
            heapreplace(heap, (entries + number, block))
        return np.array(slots, dtype=np.int64)


@contextmanager
def database(folder: Path, megabytes: int, threads: int | None) -> Iterator[Any]:
    """Yield a connection to a database in ``folder`` for a process limited to ``megabytes``.

    Raises a `MissingExtraError` without DuckDB, and what DuckDB raises as `MemoryError` or `OSError`.
    """
    duckdb = _duckdb()
    counted = int(_COUNTED * (megabytes - _OTHER_MEGABYTES))
    config = {
        "memory_limit": f"{counted}MB",
        "temp_directory": str(folder / "spilt"),
        "threads": max(1, min(threads or os.cpu_count() or 1, counted // _MEGABYTES_A_THREAD)),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "python_enable_replacements": False,
    }
    try:
        with (
            duckdb.connect(str(folder / "ratings.duckdb"), config=config) as connection,
            _QueryInterrupt(connection),
        ):
            connection.execute("SET enable_progress_bar = false")  # it would appear on standard output
            yield connection
    except duckdb.OutOfMemoryException as error:
        raise MemoryError(
            f"there is not enough memory to deal the ratings in {megabytes} MB ({_first_line(error)}); pass "
            "a larger --memory, or free space on the disk of --out"
        ) from error
    except duckdb.Error as error:
        raise OSError(
            f"DuckDB cannot work in {folder.parent} ({_first_line(error)}); free space on the disk"
        ) from error


class _QueryInterrupt(DeferredInterrupt):
    """Makes Ctrl-C end the query of a connection and raise `KeyboardInterrupt`.

    DuckDB alone first waits until its threads have finished their part of the query, which may take hours.
    """

    def __init__(self, connection: Any) -> None:
        super().__init__()
        self._connection = connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        # DuckDB and Arrow report an interrupt as an error of their own.
        if isinstance(error, Exception) and (self.requested or str(error) == "Query interrupted"):
            raise KeyboardInterrupt from error

    def note(self, number: int, frame: FrameType | None) -> None:
        """Interrupt the query and raise `KeyboardInterrupt`."""
        self.requested = True
        self._connection.interrupt()
        signal.default_int_handler(number, frame)


def _duckdb() -> ModuleType:
    require("`dmf-fast prepare`", "duckdb")
    with DeferredInterrupt() as interrupt:  # an interrupt during its import would abort the process
        duckdb = import_module("duckdb")
    if interrupt.requested:
        raise KeyboardInterrupt
    return duckdb


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
