"""The ids of the rows of some blocks: each is found where its row is, and damage is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dmf_fast.data import DataError
from dmf_fast.data.block_files import row_ids_name
from dmf_fast.data.blocks import prepare_blocks
from dmf_fast.distributed import RowBlocks
from dmf_fast.distributed.row_ids import RowIds


@pytest.fixture(params=["", "u"])
def blocks(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Seven rows in three blocks of three places, whose ids are numbers, or text."""
    mark = request.param
    lines = [f"{mark}{10 * i},{j},3" for i in range(7) for j in range(7 - i)]
    (tmp_path / "ratings.csv").write_text("\n".join(lines) + "\n")
    prepare_blocks(tmp_path / "ratings.csv", tmp_path / "blocks", 3)
    return tmp_path / "blocks"


def test_an_id_has_the_row_that_its_block_says(blocks: Path) -> None:
    every = RowIds.read(blocks, range(3), 3)
    some = RowIds.read(blocks, [1, 2], 3)
    for block in range(3):
        ids = pq.read_table(blocks / row_ids_name(block)).column("id")
        places = 3 * block + np.arange(len(ids))
        assert every.indices(ids).tolist() == places.tolist()
        assert some.indices(ids).tolist() == (places - 3 if block else np.full(len(ids), -1)).tolist()
    assert every.map.ids.to_pylist() == sorted(every.map.ids.to_pylist())
    assert len(every.rows) == 7
    assert every.indices(["u11", "11", " "]).tolist() == [-1, -1, -1]
    whole = RowIds.of(RowBlocks.open(blocks), blocks)
    assert whole.rows.tolist() == every.rows.tolist()


def test_ids_are_compared_by_how_they_are_written(blocks: Path) -> None:
    ids = RowIds.read(blocks, range(3), 3)
    if not ids.map.holds_text:
        assert ids.indices([" 10.0", "10", "10.5"]).tolist() == [*ids.indices([10, 10]), -1]


def test_damaged_ids_are_named(blocks: Path) -> None:
    with (blocks / row_ids_name(1)).open("ab") as file:
        file.write(b"more")
    with pytest.raises(DataError, match=row_ids_name(1)):
        RowIds.read(blocks, [0, 1], 3)
    assert len(RowIds.read(blocks, [0, 2], 3).rows) > 0
