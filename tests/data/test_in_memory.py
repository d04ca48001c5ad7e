"""Data frames, columns and matrices in memory give the ratings that their file would give."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.dataset
import pytest
import scipy.sparse
import torch

from dmf_fast.data import DataError, ObjectIdMap, ReadOptions, as_ratings, id_map_of
from tests.data.written_ratings import COLUMNS, ROWS, VALUES, column_ids, row_ids

TABLE = {"note": list("abcd"), "rating": VALUES, "user": ROWS, "item": COLUMNS, "time": [4, 3, 2, 1]}
MIXED: list[Any] = [(1, "a"), 2.5, "x", (1, "a")]


def of_pandas_by_its_index(table: dict[str, Any]) -> Any:
    return pandas.DataFrame(table).set_index(["user", "item"])


def structured(table: dict[str, Any]) -> Any:
    return pandas.DataFrame(table).to_records(index=False)


@pytest.mark.parametrize(
    "frame",
    [
        dict,
        pandas.DataFrame,
        of_pandas_by_its_index,
        structured,
        polars.DataFrame,
        polars.LazyFrame,
        pa.table,
        pa.record_batch,
        lambda table: pa.table(table).to_reader(),
        lambda table: pyarrow.dataset.dataset(pa.table(table)),
        lambda table: pyarrow.dataset.dataset(pa.table(table)).scanner(),
    ],
)
def test_a_table_of_any_kind_is_read_by_the_names_of_its_columns(frame: Any) -> None:
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
    "column",
    [np.array, torch.tensor, pa.array, polars.Series, pandas.Series, pandas.Index, iter],
)
def test_columns_of_any_kind_make_a_tuple(column: Any) -> None:
    ratings = as_ratings((column([9, 7]), column([1, 2]), column([1.0, 2.5])))

    assert (row_ids(ratings), column_ids(ratings), ratings.values.tolist()) == ([9, 7], [1, 2], [1.0, 2.5])


@pytest.mark.parametrize("kind", [pa.float64(), pa.decimal128(5, 2), pa.date32()])
def test_ids_are_never_scalars_of_arrow(kind: pa.DataType) -> None:
    ids = [datetime.date(2020, 1, 1), None] if pa.types.is_date(kind) else [2.5, None]
    column = pa.array(ids).cast(kind)
    values = pa.array([1.0, 2.0])
    table = pa.table({"user": column, "item": pa.array([1, 2]), "rating": values})

    for data in (table, (column, [1, 2], values), (list(column), [1, 2], list(values))):
        ratings = as_ratings(data)
        assert ratings.bad_rows.count == 1
        assert not any(isinstance(key, pa.Scalar) for key in row_ids(ratings))
        assert [float(str(key)) for key in row_ids(ratings) if "-" not in str(key)] in ([], [2.5])


def test_a_series_with_an_index_of_two_levels_holds_values() -> None:
    series = pandas.DataFrame(TABLE).set_index(["user", "item"])["rating"]

    ratings = as_ratings(series.rename_axis([None, None]))

    assert (row_ids(ratings), column_ids(ratings), ratings.values.tolist()) == (ROWS, COLUMNS, VALUES)


@pytest.mark.parametrize("frame", ["pandas", "polars", "of two levels"])
def test_a_pivoted_frame_is_named_with_what_to_call(frame: str) -> None:
    table = pandas.DataFrame(TABLE)
    if frame == "polars":
        pivoted: Any = polars.DataFrame(TABLE).pivot("item", index="user", values="rating")
    else:
        pivoted = table.pivot(index="user", columns="item", values=["rating"])
        pivoted = pivoted["rating"] if frame == "pandas" else pivoted

    with pytest.raises(DataError, match=r"pivoted frame, .* frame\.stack\(\).* frame\.unpivot"):
        as_ratings(pivoted)


def test_a_column_of_one_name_with_another_is_asked_about() -> None:
    frame = pandas.DataFrame([[1, 2, 3.0, 4.0]], columns=["user", "item", "stars", "stars"])

    with pytest.raises(DataError, match="2 columns are called 'stars'"):
        as_ratings(frame, ReadOptions(columns=["user", "item", "stars"]))
    assert as_ratings(frame, ReadOptions(columns=["user", "item", "4"])).values.tolist() == [4.0]


@pytest.mark.parametrize("shape", [(10**12, 3), (3, 2**31), (2**63 - 1, 2**63 - 1)])
def test_a_sparse_matrix_that_is_nearly_all_empty_rows_is_refused(shape: tuple[int, int]) -> None:
    matrix = scipy.sparse.coo_array(([1.0], ([1], [2])), shape=shape)

    with pytest.raises(DataError, match="nearly all rows or columns are empty"):
        as_ratings(matrix)


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


@pytest.mark.parametrize("kind", ["coo", "csr", "csc", "bsr", "dia", "lil", "dok"])
def test_a_sparse_matrix_of_any_format_is_a_matrix(kind: str) -> None:
    ratings = as_ratings(scipy.sparse.coo_array(([1.0, 2.0], ([0, 4], [2, 0])), shape=(6, 4)).asformat(kind))
    order = np.argsort(ratings.rows)
    found = (ratings.rows[order].tolist(), ratings.columns[order].tolist(), ratings.values[order].tolist())
    assert ratings.shape == (6, 4)
    assert found == ([0, 4], [2, 0], [1, 2])


def test_a_matrix_keeps_its_empty_rows_and_its_stored_zeros() -> None:
    sparse = scipy.sparse.coo_array(([0.0, 2.0], ([0, 4], [2, 0])), shape=(6, 4))
    dense = np.full((6, 4), np.nan)
    dense[0, 2], dense[4, 0] = 0.0, 2.0

    tensor = torch.from_numpy(dense)
    indices, numbers = torch.tensor([[0, 4], [2, 0]]), torch.tensor([0.0, 2.0])
    stored = torch.sparse_coo_tensor(indices, numbers, (6, 4), check_invariants=True)
    tensors = (tensor.requires_grad_(), tensor.to(torch.bfloat16), stored)
    for matrix in (sparse, sparse.tocsr(), dense, dense.tolist(), *tensors):
        ratings = as_ratings(matrix)
        assert ratings.shape == (6, 4)
        assert ratings.rows.tolist() == [0, 4]
        assert ratings.columns.tolist() == [2, 0]
        assert ratings.values.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (([1], [2]), "2 sequences"),
        (([1], [2, 3], [1.0]), "the same length"),
        (([[1]], [2], [1.0]), "hashable"),
        (([1], [2], ["x"]), "numbers were expected"),
        (("ab", "cd", [1, 2]), r"row \(user\) column must be a sequence, got 'ab'"),
        (([1], 2, [1.0]), r"column \(item\) column must be a sequence, got 2"),
        (([1], np.array(2), [1.0]), "must be a sequence"),
        ({"user": 1, "item": 2, "rating": 3}, "must be a sequence, got 1"),
        ({"user": [1], "item": [2]}, "2 columns found"),
        ({("ann", "x"): 3.0}, "1 column found"),
        (None, "0 dimensions"),
        ([(1, 2, 3.0), (1, 3, 4.0)], r"tuple\(zip\(\*data\)\)"),
        (torch.ones(2, 2, 2).to_sparse(), "is a tensor that cannot be read"),
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
    with pytest.raises(DataError, match="matrix, which has no times"):
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
