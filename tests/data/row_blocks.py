"""Row blocks as they must be, dealt in memory row by row, and as a folder holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dmf_fast.data import ReadOptions, read_ratings
from dmf_fast.data.block_files import COLUMN_IDS, block_name, read_blocks_facts, row_ids_name
from dmf_fast.files.digests import check_sums

POLICIES = ("error", "first", "last", "mean", "sum")
TEXT = "user,item,rating\nbob,x,4.5\nann,y,3\nbob,y,2\ncat,x,1\nbob,z,5\nann,x,2.5\n"

Dealt = list[tuple[Any, dict[Any, float]]]
"""The rows of a block by their places: the id, and the values by column id."""


def expected_blocks(source: Path, count: int, options: ReadOptions, duplicates: str) -> list[Dealt]:
    """Deal rows in memory, one after the other."""
    ratings = read_ratings(source, options)
    observed = ratings.observations(duplicates=duplicates)  # type: ignore[arg-type]
    rows, columns = ratings.row_ids.ids.to_pylist(), ratings.column_ids.ids.to_pylist()
    by_row: dict[Any, dict[Any, float]] = {row: {} for row in rows}
    for i, j, value in zip(observed.rows, observed.columns, observed.values, strict=True):
        by_row[rows[int(i)]][columns[int(j)]] = float(value)
    dealt: list[Dealt] = [[] for _ in range(count)]
    places = -(-len(by_row) // count)
    for row in sorted(by_row, key=lambda row: (-len(by_row[row]), row)):
        full = sum(len(block) == places for block in dealt)
        most = places if full < len(by_row) - count * (places - 1) else places - 1
        open_blocks = [block for block in range(count) if len(dealt[block]) < most]
        chosen = min(open_blocks, key=lambda block: sum(len(one) for _, one in dealt[block]))
        dealt[chosen].append((row, by_row[row]))
    return dealt


def blocks_of(folder: Path) -> list[Dealt]:
    """Read a folder with nothing but Arrow, and look whether it is in order."""
    check_sums(folder)
    facts = read_blocks_facts(folder)
    columns = pq.read_table(folder / COLUMN_IDS)["id"].to_pylist()
    assert columns == sorted(set(columns))
    assert len(columns) == facts.columns
    dealt = []
    for block in range(facts.blocks):
        with pa.ipc.open_file(folder / block_name(block)) as file:
            batches = [file.get_batch(k) for k in range(file.num_record_batches)]
        table = pa.Table.from_batches(batches)
        kinds = {field.name: field.type for field in table.schema}
        assert kinds == {
            "rows": pa.int32(), "columns": pa.int32(),
            "values": pa.float32() if facts.dtype == "float32" else pa.float64(),
        }  # fmt: skip
        assert len(table) == facts.block_entries[block]
        pairs = list(zip(table["rows"].to_pylist(), table["columns"].to_pylist(), strict=True))
        assert pairs == sorted(set(pairs))
        ids = pq.read_table(folder / row_ids_name(block))["id"].to_pylist()
        assert facts.rows_a_block - 1 <= len(ids) <= facts.rows_a_block
        rows: Dealt = [(row, {}) for row in ids]
        for (place, column), value in zip(pairs, table["values"].to_pylist(), strict=True):
            rows[place][1][columns[column]] = value
        dealt.append(rows)
    assert sum(map(len, dealt)) == facts.rows
    return dealt


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def written(path: Path, lines: list[str]) -> Path:
    path.write_text("user,item,rating\n" + "\n".join(lines) + "\n")
    return path


def skewed_file(path: Path, rows: int = 3000, entries: int = 300_000) -> Path:
    """Write ratings of rows of log-normal popularity, a few of which stand twice."""
    random = np.random.default_rng(3)
    weights = np.exp(random.normal(size=rows))
    users = random.choice(rows, entries, p=weights / weights.sum())
    items, values = random.integers(0, 2000, entries), random.normal(size=entries)
    pq.write_table(pa.table({"user": users * 7, "item": items, "rating": values}), path)
    return path
