"""The benchmark of reading writes the same ratings in all its formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.reading import FILES, write_files
from dmf_fast.data import Ratings, ReadOptions, read_ratings


def entries_in_order(ratings: Ratings) -> np.ndarray:
    assert ratings.times is not None
    table = np.stack([ratings.rows, ratings.columns, ratings.values, ratings.times])
    return table[:, np.lexsort(table[:2])]


def test_all_files_of_the_benchmark_hold_the_same_ratings(tmp_path: Path) -> None:
    write_files(tmp_path, 50, 30, 400)

    csv, parquet, netflix = (
        read_ratings(tmp_path / name, ReadOptions(times=True, strict=True)) for name in FILES
    )

    assert csv.observations().nnz == 400
    np.testing.assert_array_equal(entries_in_order(csv), entries_in_order(parquet))
    np.testing.assert_array_equal(entries_in_order(csv), entries_in_order(netflix))
