"""Seen columns from observations, pairs and files; nothing that would mislead a kernel is accepted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dmf_fast import Observations
from dmf_fast.data import DataError
from dmf_fast.serving import SeenColumns

PAIRS = ([4, 0, 4, 2, 4], [6, 1, 2, 0, 6])
SHAPE = (5, 7)


def lists_of(seen: SeenColumns) -> list[list[int]]:
    return [part.tolist() for part in torch.tensor_split(seen.columns, seen.offsets[1:-1])]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 11)), max_size=60))
def test_columns_are_sorted_by_row_and_counted_once(pairs: list[tuple[int, int]]) -> None:
    seen = SeenColumns.of_pairs([row for row, _ in pairs], [column for _, column in pairs], (9, 12))
    expected = [sorted({column for row, column in pairs if row == line}) for line in range(9)]
    assert lists_of(seen) == expected


def test_observations_are_seen() -> None:
    seen = SeenColumns.of(Observations([2, 0, 2], [3, 1, 0], [0.0, 1.0, 2.0], (4, 5)))
    assert lists_of(seen) == [[1], [], [0, 3], []]
    assert seen.shape == (4, 5)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    seen = SeenColumns.of_pairs(*PAIRS, SHAPE)
    seen.save(tmp_path / "seen")
    loaded = SeenColumns.load(tmp_path / "seen")
    assert lists_of(loaded) == lists_of(seen)
    assert loaded.shape == SHAPE
    assert [path.name for path in tmp_path.iterdir()] == ["seen"]


def test_pairs_of_a_parquet_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "observed.parquet"
    pq.write_table(pa.table({"row": np.int32(PAIRS[0]), "column": np.int32(PAIRS[1])}), path)
    assert lists_of(SeenColumns.read_parquet(path, SHAPE)) == [[1], [], [0], [], [2, 6]]
    with pytest.raises(DataError, match=r"observed.parquet does not hold.*columns\[0\]"):
        SeenColumns.read_parquet(path, (5, 6))
    pq.write_table(pa.table({"row": ["a"], "column": ["b"]}), path)
    with pytest.raises(DataError, match="must hold integers"):
        SeenColumns.read_parquet(path, SHAPE)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_files_of_another_kind_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "seen"
    path.write_bytes(content)
    with pytest.raises(DataError, match="seen is not a file of seen columns"):
        SeenColumns.load(path)
    with pytest.raises(DataError, match="seen does not hold the pairs"):
        SeenColumns.read_parquet(path, SHAPE)
    with pytest.raises(DataError, match="missing"):
        SeenColumns.load(tmp_path / "missing")


@pytest.mark.parametrize(
    ("offsets", "columns", "message"),
    [
        ([0, 1], [0], "`offsets` must be 3 contiguous int64"),
        ([0, 2, 1], [0], "must rise from 0 to the number of columns, 1"),
        ([1, 1, 1], [0], "must rise from 0"),
        ([0, 0, 2], [0], "must rise from 0"),
        ([0, -1, 1], [0], "must rise from 0"),
        ([0, 1, 1], [7], "`columns` must be from 0 to 6"),
        ([0, 1, 1], [-1], "`columns` must be from 0 to 6"),
        ([0, 2, 3], [3, 3, 0], "the columns of a row must rise"),
        ([0, 1, 3], [3, 5, 4], "the columns of a row must rise"),
    ],
)
def test_lists_that_would_mislead_a_kernel_are_refused(
    offsets: list[int], columns: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SeenColumns(torch.tensor(offsets), torch.tensor(columns, dtype=torch.int32), (2, 7))


def test_pairs_outside_the_matrix_are_refused() -> None:
    with pytest.raises(IndexError, match=r"`rows\[1\]` must be from 0 to 4, got 5"):
        SeenColumns.of_pairs([0, 5], [0, 0], SHAPE)
    with pytest.raises(IndexError, match=r"`columns\[0\]` must be from 0 to 6, got -1"):
        SeenColumns.of_pairs([0], [-1], SHAPE)
    with pytest.raises(ValueError, match="the same length, got 2 and 1"):
        SeenColumns.of_pairs([0, 1], [0], SHAPE)
