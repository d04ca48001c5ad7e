"""The ids of the rows of blocks, and of all columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dmf_fast.data.block_files import COLUMN_IDS, row_ids_name
from dmf_fast.data.errors import DataError
from dmf_fast.data.id_map import IdMap
from dmf_fast.distributed.block_entries import check_block_files
from dmf_fast.distributed.row_blocks import RowBlocks
from dmf_fast.files.reading import reading

_ADVICE = "write it again with dmf-fast prepare"


@dataclass(frozen=True, eq=False)
class RowIds:
    """The ids of the rows of some blocks; rows are counted from the first row of the first block.

    Attributes:
        map: the sorted ids.
        rows: ``(len(map),)``, int64: the row of each id of the map.

    Example:
        >>> ids = RowIds(IdMap(["ann", "bob"]), np.array([7, 0]))
        >>> ids.indices(["bob", "zoe", "ann"]).tolist()
        [0, -1, 7]

    """

    map: IdMap
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, observed: RowBlocks, path: Path) -> RowIds:
        """Read the ids of the rows of this process from the folder that its blocks come from.

        Raises what `read` raises.
        """
        here = range(observed.first_block, observed.first_block + observed.blocks // observed.sharding.size)
        return cls.read(path, here, observed.rows_a_block)

    @classmethod
    def read(cls, path: Path, blocks: Sequence[int], rows_a_block: int) -> RowIds:
        """Read the ids of the rows of blocks from a folder that ``dmf-fast prepare`` wrote.

        Raises a `DataError` if a file is damaged or an id is repeated.
        """
        import pyarrow.parquet as pq  # here, since it is slow to import

        check_block_files(path, [row_ids_name(block) for block in blocks])
        ids, rows = [], []
        for place, block in enumerate(blocks):
            with reading(path / row_ids_name(block), "ids of rows", _ADVICE, DataError):
                ids.append(pq.read_table(path / row_ids_name(block), columns=["id"]).column("id"))
                ids[-1].validate(full=True)  # Parquet does not check that text is UTF-8
                rows.append(place * rows_a_block + np.arange(len(ids[-1])))
        with reading(path, "a folder of row blocks", _ADVICE, DataError):
            every = pa.chunked_array([chunk for one in ids for chunk in one.chunks], ids[0].type)
            found = IdMap(every)
            if len(found) != len(every):
                raise ValueError("ids of rows are repeated")
            of_ids = np.empty(len(found), dtype=np.int64)
            of_ids[found.indices(every)] = np.concatenate(rows)
            return cls(found, of_ids)

    def indices(self, ids: Any) -> NDArray[np.int64]:
        """Return the row of every id, int64, or -1 for unknown ids; see `IdMap`."""
        rows: NDArray[np.int64] = np.append(self.rows, -1)[self.map.indices(ids)]
        return rows


def read_column_ids(path: Path) -> IdMap:
    """Read the ids of the columns from a folder that ``dmf-fast prepare`` wrote.

    Raises a `DataError` if they are damaged.
    """
    check_block_files(path, [COLUMN_IDS])
    return IdMap.load(path / COLUMN_IDS)
