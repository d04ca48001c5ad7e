"""Row blocks: the names of the files in the folder, and the facts that describe it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from dmf_fast.data.bad_rows import BadRows
from dmf_fast.data.errors import DataError
from dmf_fast.files.reading import read_record, reading

BLOCKS_FACTS = "blocks.json"
"""The file that makes a folder one of row blocks."""
COLUMN_IDS = "column-ids.parquet"
VERSION = 1
ROWS_A_BATCH = 1 << 20
"""Entries in every record batch of a block except the last."""

_MOST = 2**31 - 1
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Magnitude = Annotated[float, msgspec.Meta(ge=0, le=sys.float_info.max)]
_Size = Annotated[int, msgspec.Meta(ge=1, le=_MOST)]


class BlocksFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a folder of row blocks.

    Every row is dealt to one of ``rows_a_block`` places in one of ``blocks`` blocks; only the last place of a
    block may be empty. ``largest`` is the largest absolute value.
    """

    format: Literal["dmf_fast row blocks"] = "dmf_fast row blocks"
    version: int = VERSION
    blocks: _Size
    rows: _Count
    rows_a_block: _Size
    columns: _Size
    entries: _Count
    block_entries: tuple[_Count, ...]
    dtype: Literal["float32", "float64"]
    largest: _Magnitude
    bad_rows: BadRows
    made_of: dict[str, Any] | None


def is_row_blocks(path: str | os.PathLike[str]) -> bool:
    """Return whether ``path`` is a folder of row blocks.

    >>> is_row_blocks("no/such/folder")
    False
    """
    return (Path(path) / BLOCKS_FACTS).is_file()


def block_name(block: int) -> str:
    """Return the name of the file with the entries of a block.

    >>> block_name(7)
    'block-00007.arrow'
    """
    return f"block-{block:05d}.arrow"


def row_ids_name(block: int) -> str:
    """Return the name of the file with the ids of the rows of a block.

    >>> row_ids_name(7)
    'row-ids-00007.parquet'
    """
    return f"row-ids-{block:05d}.parquet"


def read_blocks_facts(path: Path) -> BlocksFacts:
    """Return the facts about the folder of row blocks at ``path``; its other files are not read.

    Raises a `DataError` that names the folder if it holds no row blocks, is of another version, or is
    inconsistent.
    """
    with reading(path, "a folder of row blocks", "write it again with dmf-fast prepare", DataError):
        facts = read_record(path / BLOCKS_FACTS, BlocksFacts)
        if facts.version != VERSION:
            raise ValueError(f"it has version {facts.version}, but this dmf_fast reads version {VERSION}")
        if facts.rows_a_block != -(-facts.rows // facts.blocks) or facts.rows < facts.blocks:
            raise ValueError(f"{facts.rows} rows do not fill {facts.blocks} blocks of {facts.rows_a_block}")
        if len(facts.block_entries) != facts.blocks or sum(facts.block_entries) != facts.entries:
            raise ValueError(f"its blocks do not hold {facts.entries} entries in total")
        if facts.bad_rows.count < 0:
            raise ValueError(f"it counts {facts.bad_rows.count} bad rows")
        return facts
