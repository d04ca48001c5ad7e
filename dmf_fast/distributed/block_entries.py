"""Reads the entries of blocks that ``dmf-fast prepare`` wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from dmf_fast.data.block_files import BLOCKS_FACTS, BlocksFacts, block_name, read_blocks_facts, row_ids_name
from dmf_fast.data.errors import DataError
from dmf_fast.files.digests import SUMS, check_sums
from dmf_fast.files.reading import reading
from dmf_fast.observations import Observations
from dmf_fast.sharding import RowSharding

_KIND, _ADVICE = "a folder of row blocks", "write it again with dmf-fast prepare"
_TYPES = {"rows": pa.int32(), "columns": pa.int32()}


class OwnBlocks(NamedTuple):
    """What one process reads of a folder.

    Attributes:
        blocks: the entries of its blocks.
        row_counts: the number of rows of each block, without padding.
        origin: identifies the folder and the dtype.

    """

    blocks: list[Observations]
    row_counts: list[int]
    origin: str


def read_own_blocks(
    path: Path, sharding: RowSharding, dtype: torch.dtype | None, device: torch.device | str
) -> OwnBlocks:
    """Read the blocks of this process, and no others.

    Raises a `DataError` if they are damaged, and a `ValueError` if the number of processes does not divide
    the number of blocks.
    """
    facts = read_blocks_facts(path)
    if facts.blocks % sharding.size:
        raise ValueError(
            f"the number of processes must divide the {facts.blocks} blocks, got {sharding.size}; start a "
            "number that divides it, or prepare the ratings with another --blocks"
        )
    count = facts.blocks // sharding.size
    here = range(sharding.rank * count, (sharding.rank + 1) * count)
    names = [name for block in here for name in (block_name(block), row_ids_name(block))]
    sums = check_block_files(path, names)
    dtype = getattr(torch, facts.dtype) if dtype is None else dtype
    blocks = [read_block(path, facts, block, dtype, device) for block in here]
    return OwnBlocks(blocks, [row_count(path, block) for block in here], f"{sums} {dtype}")


def check_block_files(path: Path, names: Sequence[str]) -> str:
    """Verify the digests of files, and return the digest of all digests, which identifies the folder.

    Raises a `DataError` if a digest does not match.
    """
    with reading(path, _KIND, _ADVICE, DataError):
        check_sums(path, (BLOCKS_FACTS, *names))
        return hashlib.sha256((path / SUMS).read_bytes()).hexdigest()


def read_block(
    path: Path, facts: BlocksFacts, block: int, dtype: torch.dtype, device: torch.device | str
) -> Observations:
    """Return the entries of a block, with rows counted within the block.

    Raises a `DataError` if the file is damaged or does not match ``facts``.
    """
    with reading(path / block_name(block), "a block of ratings", _ADVICE, DataError):
        with pa.memory_map(str(path / block_name(block))) as file:
            table = pa.ipc.open_file(file).read_all()
        kinds = {field.name: field.type for field in table.schema}
        if kinds != {**_TYPES, "values": pa.float32() if facts.dtype == "float32" else pa.float64()}:
            raise ValueError(f"its columns are {kinds}")
        if len(table) != facts.block_entries[block]:
            raise ValueError(f"it holds {len(table)} entries instead of {facts.block_entries[block]}")
        table.validate(full=True)
        rows, columns, values = (table.column(name).to_numpy() for name in kinds)
        if len(rows) and (np.diff(rows) < 0).any():
            raise ValueError("its rows are not in order")
        shape = (facts.rows_a_block, facts.columns)
        return Observations(rows, columns, values, shape, dtype=dtype, device=device)


def row_count(path: Path, block: int) -> int:
    """Return the number of rows of a block; raise a `DataError` if their ids cannot be read."""
    import pyarrow.parquet as pq  # here, since it is slow to import

    with reading(path / row_ids_name(block), "ids of rows", _ADVICE, DataError):
        return int(pq.read_metadata(path / row_ids_name(block)).num_rows)
