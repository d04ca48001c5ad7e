"""Data frames, columns and matrices in memory give the ratings that their file would give."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas
import polars
import pyarrow as pa
import pytest
import scipy.sparse

from dmf_fast.data import DataError, ObjectIdMap, ReadOptions, as_ratings, id_map_of
from tests.data.written_ratings import COLUMNS, ROWS, VALUES, column_ids, row_ids

TABLE = {"note": list("abcd"), "rating": VALUES, "user": ROWS, "item": COLUMNS, "time": [4, 3, 2, 1]}
MIXED: list[Any] = [(1, "a"), 2.5, "x", (1, "a")]


@pytest.mark.parametrize("frame", [pandas.DataFrame, polars.DataFrame, pa.table])
def test_a_data_frame_is_read_by_the_names_of_its_columns(frame: Any) -> None:
    ratings = as_ratings(frame(TABLE), ReadOptions(times=True))

    assert (row_ids(ratings), column_ids(ratings)) == (ROWS, COLUMNS)
    assert ratings.values.tolist() == VALUES
    assert ratings.times is not None
    assert ratings.times.tolist() == [4, 3, 2, 1]


def test_columns_of_a_frame_are_picked_by_name() -> None:
    frame = pandas.DataFrame({"film": [1, 2], "viewer": ["ann", "bob"], "stars": [3, 4]})

    assert row_ids(as_ratings(frame, ReadOptions(columns=["viewer", "film", "stars"]))) == ["ann", "bob"]
    with pytest.raises(DataError, match="no column is recognized"):
        as_ratings(frame)


@pytest.mark.parametrize(
    "ids",
    [
        MIXED,
        [2.5, 0.5, 2.5, 1.5],
        [datetime.date(2020, 1, day) for day in (3, 1, 3, 2)],
        [True, False, True, True],
        [2**70, 1, 2**70, 3],
        np.array(["b", "a", "b", "c"]),
        pandas.Series(["b", "a", "b", "c"], dtype="category"),
    ],
    ids=["mixed", "floats", "dates", "booleans", "beyond 64 bits", "NumPy text", "categories"],
)
def test_ids_of_any_hashable_type_come_back(ids: Any) -> None:
    ratings = as_ratings((ids, COLUMNS, VALUES))

    assert row_ids(ratings) == list(ids)
    assert ratings.shape == (len(set(ids)), 4)


def test_other_ids_are_sorted_where_they_can_be_compared() -> None:
    assert as_ratings(([2.5, 0.5], [1, 2], [1, 2])).row_ids.ids.tolist() == [0.5, 2.5]
    assert as_ratings((MIXED, COLUMNS, VALUES)).row_ids.ids.tolist() == MIXED[:3]


@pytest.mark.parametrize("missing", [None, float("nan"), pandas.NA, pandas.NaT])
def test_a_missing_id_is_a_bad_row(missing: Any) -> None:
    ratings = as_ratings(([(1, 2), missing, (3, 4)], [1, 2, 3], [1, 2, 3]))

    assert row_ids(ratings) == [(1, 2), (3, 4)]
    assert ratings.bad_rows.examples[0].startswith("data, row 2: the row (user) is missing")


def test_a_missing_or_infinite_value_is_a_bad_row() -> None:
    ratings = as_ratings(([1, 2, 3, 4, 5], [1, 1, 1, 1, 1], [1, None, 2, np.inf, 3]))

    assert ratings.values.tolist() == [1, 2, 3]
    assert [example.split(":")[0] for example in ratings.bad_rows.examples] == [
        "data, row 2",
        "data, row 4",
    ]


def test_a_matrix_keeps_its_empty_rows_and_its_stored_zeros() -> None:
    sparse = scipy.sparse.coo_array(([0.0, 2.0], ([0, 4], [2, 0])), shape=(6, 4))
    dense = np.full((6, 4), np.nan)
    dense[0, 2], dense[4, 0] = 0.0, 2.0

    for matrix in (sparse, sparse.tocsr(), dense, dense.tolist()):
        ratings = as_ratings(matrix)
        assert ratings.shape == (6, 4)
        assert ratings.rows.tolist() == [0, 4]
        assert ratings.columns.tolist() == [2, 0]
        assert ratings.values.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (([1], [2]), "2 sequences"),
        (([1], [2, 3], [1.0]), "one length"),
        (([[1]], [2], [1.0]), "hashable"),
        (([1], [2], ["x"]), "numbers were expected"),
        (([1], [2], [object()]), "is not an array of one type"),
        ("ratings.csv", "read_ratings"),
        ([[1], [2, 3]], "data frame"),
        (np.ones(3), "dimensions"),
        (np.array([["a"]]), "real numbers"),
    ],
)
def test_what_are_no_ratings_is_refused(data: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        as_ratings(data)


def test_times_that_are_wanted_must_be_given() -> None:
    with pytest.raises(DataError, match="without times"):
        as_ratings(([1], [2], [3.0]), ReadOptions(times=True))
    with pytest.raises(DataError, match="matrix without times"):
        as_ratings(np.ones((2, 2)), ReadOptions(times=True))


def test_nothing_at_all_gives_no_entries() -> None:
    assert len(as_ratings(([], [], []))) == 0


def test_ratings_by_other_maps_have_minus_one_for_unknown_ids() -> None:
    train = as_ratings((["7", "8"], [(1, 1), (2, 2)], [1, 2]))
    test = as_ratings(([8, 9], [(2, 2), (1, 1)], [3, 4])).mapped_to(train.row_ids, train.column_ids)

    assert test.rows.tolist() == [1, -1]
    assert test.columns.tolist() == [1, 0]
    assert test.known.tolist() == [True, False]
    assert test.select(test.known).observations().values.tolist() == [3]


def test_an_object_map_is_one_to_one_and_knows_no_others() -> None:
    ids = id_map_of(MIXED)

    assert isinstance(ids, ObjectIdMap)
    assert ids.ids_at(ids.indices(MIXED)).tolist() == MIXED
    assert ids.indices(["y", 2.5]).tolist() == [-1, 1]
    with pytest.raises(IndexError, match=r"`indices` must be from 0 to 2, got"):
        ids.ids_at([3])


def test_what_is_masked_is_not_known() -> None:
    ratings = as_ratings(np.ma.masked_array([[1, 2], [3, 4]], [[False, True], [False, False]]))

    assert ratings.values.tolist() == [1.0, 3.0, 4.0]
