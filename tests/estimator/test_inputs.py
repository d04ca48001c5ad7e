"""X, y and weights in all the forms in which people have them, and the sentences for others."""

from __future__ import annotations

import uuid
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest
import scipy.sparse

from tests.estimator.ratings import quick, ratings

X, Y = ratings(count=200)
EXPECTED = quick().fit(X, Y).predict(X)


@pytest.mark.parametrize(
    "given",
    [
        X.tolist(),
        [tuple(pair) for pair in X.tolist()],
        X.astype(np.int16),
        X.astype(np.float64),
        X.astype(object),
        np.asfortranarray(X),
        pd.DataFrame(X, columns=["u", "i"]),
        pd.DataFrame({"u": pd.array(X[:, 0], dtype="Int64"), "i": pd.Categorical(X[:, 1])}),
        pl.DataFrame({"u": X[:, 0], "i": X[:, 1].astype(np.float64)}),
        pa.table({"u": X[:, 0], "i": X[:, 1]}),
        pa.record_batch({"u": X[:, 0], "i": X[:, 1]}),
        pl.LazyFrame({"u": X[:, 0], "i": X[:, 1]}),
        duckdb.connect().from_arrow(pa.table({"u": X[:, 0], "i": X[:, 1]})),
        {"u": X[:, 0], "i": X[:, 1]},
    ],
    ids=lambda given: type(given).__name__,
)
def test_pairs_of_integers_in_any_container_give_one_model(given: Any) -> None:
    completer = quick().fit(given, Y)
    assert np.array_equal(completer.predict(given), EXPECTED)
    assert np.array_equal(completer.predict(X) if isinstance(given, list) else EXPECTED, EXPECTED)


def test_categories_of_several_tables_may_be_more_than_their_codes_can_tell_apart() -> None:
    def part(first: int) -> pa.Table:
        ids = pd.Categorical([f"{key}" for key in range(first, first + 100)])
        return pa.Table.from_pandas(pd.DataFrame({"user": ids, "item": range(100), "rating": 1.0}))

    completer = quick().fit(pa.concat_tables([part(0), part(100)]))
    assert sorted(map(int, completer.row_ids_.ids.to_pylist())) == list(range(200))


@pytest.mark.parametrize("names", [["user", "item", "rating"], ["rating", "movieId", "userId"]])
@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame,
        lambda table: pd.DataFrame(table).set_index(list(table)[:2]),
        pl.DataFrame,
        pl.LazyFrame,
        pa.table,
        pa.record_batch,
        lambda table: pa.table(table).to_reader(),
        lambda table: duckdb.connect().from_arrow(pa.table(table)),
        lambda table: pyarrow.dataset.dataset(pa.table(table)),
        dict,
    ],
)
def test_a_frame_of_ratings_needs_no_y(frame: Any, names: list[str]) -> None:
    columns = {"user": X[:, 0], "userId": X[:, 0], "item": X[:, 1], "movieId": X[:, 1], "rating": Y}
    completer = quick().fit(frame({name: columns[name] for name in names}))
    assert np.array_equal(completer._fitted.observed.values, Y.astype(np.float32))
    assert len(completer.column_ids_) == len(np.unique(X[:, 1]))
    assert completer.n_features_in_ == 2


def test_names_of_columns_are_remembered_and_checked() -> None:
    frame = pd.DataFrame(X, columns=["u", "i"])
    completer = quick().fit(frame, Y)
    assert completer.feature_names_in_.tolist() == ["u", "i"]
    with pytest.raises(ValueError, match="feature names should match"):
        completer.predict(frame.rename(columns={"i": "j"}))


def mixed(kind: str) -> list[tuple[Any, Any]]:
    """The pairs with ids of other kinds; the second of each pair stays text."""
    make = {
        "text": lambda key: f"käse 🧀 {key}",
        "tuples": lambda key: (key, "x"),
        "uuids": lambda key: uuid.UUID(int=int(key)),
        "halves": lambda key: key + 0.5,
        "bytes": lambda key: str(key).encode(),
        "a mixture": lambda key: int(key) if key % 2 else f"{key} ",
        "beyond 64 bits": lambda key: 2**70 + int(key),
    }[kind]
    return [(make(row), f"film {column}") for row, column in X]


@pytest.mark.parametrize(
    "kind", ["text", "tuples", "uuids", "halves", "bytes", "a mixture", "beyond 64 bits"]
)
def test_ids_of_any_hashable_type_come_back_as_they_went_in(kind: str) -> None:
    pairs = mixed(kind)
    completer = quick().fit(pairs, Y)
    predictions, known = completer.predict(pairs, return_known=True)
    assert known.all()
    assert np.abs(predictions - Y).mean() < np.abs(Y - Y.mean()).mean()
    rows = list(dict.fromkeys(row for row, _ in pairs))[:5]
    assert set(completer.similar_users(rows, k=3).ids.ravel()) <= {row for row, _ in pairs}


def test_whole_numbers_and_text_are_one_id_however_they_are_written() -> None:
    completer = quick().fit(X, Y)
    for given in (X.astype(str), X.astype(np.float32), X.astype(str).astype(object)):
        assert np.array_equal(completer.predict(given), EXPECTED)
    objects = [(float(row), str(column)) for row, column in X]
    assert np.array_equal(completer.predict(objects), EXPECTED)


def test_ids_of_another_kind_than_those_of_the_training_are_unknown() -> None:
    completer = quick().fit(X, Y)
    others = [((1, 2), 5), (b"7", 5), (7.5, 5), (True, 5)]
    predictions, known = completer.predict(others, return_known=True)
    assert not known.any()
    assert np.isfinite(predictions).all()


def test_a_sparse_matrix_and_an_array_with_holes_are_the_same_ratings() -> None:
    dense = np.full((40, 30), np.nan)
    dense[(X[:, 0] - 1000) // 7, X[:, 1] // 5] = Y
    rows, columns = np.nonzero(~np.isnan(dense))
    stored = scipy.sparse.csr_array((dense[rows, columns], (rows, columns)), shape=(41, 31))
    pairs = np.stack([rows, columns], axis=1)
    of_pairs = quick().fit(pairs, dense[rows, columns])
    for matrix in (dense, dense.tolist(), scipy.sparse.csr_array(np.nan_to_num(dense)), stored):
        completer = quick().fit(matrix)
        assert len(completer._fitted.observed) == 200
        assert completer.n_features_in_ == 2
        assert np.corrcoef(completer.predict(pairs), of_pairs.predict(pairs))[0, 1] > 0.9
    assert completer.model_.shape == (41, 31)  # lines without ratings are known, too


def test_weights_count_as_much_as_they_say_and_those_of_zero_not_at_all() -> None:
    weights = np.where(np.arange(200) < 150, 1.0, 0.0)
    completer = quick(validation_fraction=0.0).fit(X, Y, weights)
    fewer = quick(validation_fraction=0.0).fit(X[:150], Y[:150])
    np.testing.assert_allclose(completer.predict(X), fewer.predict(X), rtol=1e-4)
    heavy = quick(validation_fraction=0.0).fit(X, Y, np.where(np.arange(200) == 3, 50.0, 1.0))
    assert abs(heavy.predict(X[3:4]) - Y[3]) < abs(
        quick(validation_fraction=0.0).fit(X, Y).predict(X[3:4]) - Y[3]
    )


def test_a_pair_that_stands_twice_is_an_error_unless_duplicates_says_which_counts() -> None:
    twice = np.concatenate([X, X[:1]])
    values = np.append(Y, 100.0)
    with pytest.raises(ValueError, match=r"positions 0 and 200 .*choose duplicates='first'"):
        quick().fit(twice, values)
    kept = quick(duplicates="first").fit(twice, values)
    assert kept._fitted.observed.values.max() < 100


def test_ratings_that_float32_cannot_tell_apart_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="y is rounded to float32.*use dtype='float64'"):
        quick().fit(X, Y + 1.7e9)
    quick(dtype="float64").fit(X, Y + 1.7e9)


NAN = float("nan")


@pytest.mark.parametrize(
    ("given", "y", "sentence"),
    [
        ([1, 2, 3], [1, 2, 3], "`X` must be a list of pairs"),
        ([(1, 2), (1,)], [1, 2], "`X` must be a list of pairs"),
        (["ab", "cd"], [1, 2], "`X` must be a list of pairs"),
        (np.zeros((4, 3)), np.ones(4), r"`X` must have shape \(n, 2\).* X has 3 features"),
        (np.zeros((4, 1)), np.ones(4), r"`X` must have shape \(n, 2\).* 1 feature\(s\)"),
        (np.zeros((2, 2, 2)), [1, 2], r"`X` must have shape \(n, 2\).* 3 dimensions"),
        (np.empty((0, 2)), [], "`X` must hold at least one pair"),
        ([(1, None), (1, 2)], [1, 2], r"`X` must hold no missing column id, got None or NaN in X\[0\]"),
        ([(1, 2), (NAN, 2)], [1, 2], r"`X` must hold no missing row id, got None or NaN in X\[1\]"),
        ([(("a",), 2), (NAN, 2)], [1, 2], r"`X` must hold no missing row id, got None or NaN in X\[1\]"),
        ([(np.inf, 2)], [1], r"row id inf in X\[0\]"),
        (np.ones((2, 2)) * 1j, [1, 2], "Complex data not supported"),
        ([(1, 2)], [NAN], r"`y` must be finite, got y\[0\] = nan"),
        ([(1, 2)], ["good"], "`y` must hold numbers"),
        ([(1, 2)], [1e200], "`y` must be at most 1e"),
        ([(1, 2)], [1, 2], "`y` must hold a number for each of the 1 pairs"),
        (
            [(1, 2), (3, 4)],
            None,
            r"`y` must hold the ratings of pairs of ids, got None and an `X` of shape \(2, 2\)",
        ),
        ([("ann", 2), ("bob", 4)], None, "`X` must be a matrix of numbers where `y` is None"),
        (np.full((3, 4), NAN), None, "`X` must hold at least one rating, got a matrix"),
        (pd.DataFrame({"u": [1], "i": [2]}), None, "`X` must have three columns .* got u, i"),
        (
            pd.DataFrame(np.ones((2, 5)), columns=list("abcde")),
            None,
            "common names of row ids, column ids and ratings .* got a, b, c, d, e",
        ),
        (pa.table([[1], [2]], ["id", "id"]), [1], "`X` must have columns of different names, got 'id' twice"),
        (pd.DataFrame([[1, 2]], columns=["id", "id"]), [1], "columns of different names, got 'id' twice"),
        (scipy.sparse.eye_array(3), [1, 2, 3], "`X` must hold pairs .* got a sparse matrix"),
    ],
)
def test_what_is_no_ratings_ends_in_a_sentence(given: Any, y: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        quick().fit(given, y)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([([1], 2), (3, 4)], [1, 2]), "`X` must hold hashable ids, got the row id"),
        ((None,), "`X` must be pairs of ids"),
        (("u.data",), "`X` must be pairs of ids"),
    ],
)
def test_what_can_hold_no_ids_is_a_type_error(arguments: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        quick().fit(*arguments)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        (np.full(200, -1.0), r"`sample_weight` must be at least 0, got sample_weight\[0\] = -1"),
        (np.zeros(200), "must hold a weight above 0, got zeros only"),
        (np.ones(3), "`sample_weight` must hold a number for each of the 200 pairs"),
        (np.full(200, np.inf), "`sample_weight` must be finite"),
    ],
)
def test_weights_that_are_none_end_in_a_sentence(weights: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        quick().fit(X, Y, weights)


def test_weights_of_a_matrix_are_refused() -> None:
    with pytest.raises(ValueError, match="`sample_weight` must be None where `X` is a matrix"):
        quick().fit(np.ones((3, 4)), sample_weight=np.ones(3))


@pytest.mark.parametrize("take", [lambda array: array, lambda array: array.astype(np.float32)])
def test_what_is_masked_in_a_matrix_is_not_known(take: Any) -> None:
    matrix = np.arange(12.0).reshape(3, 4)
    masked = take(np.ma.masked_greater(matrix, 8.0))
    holes = np.where(matrix > 8.0, np.nan, matrix)
    expected, found = (quick().fit(one) for one in (holes, masked))
    assert found.predict([(2, 3)]) == expected.predict([(2, 3)])


def test_masked_pairs_ratings_and_weights_are_refused() -> None:
    mask = np.arange(len(Y)) == 7
    with pytest.raises(ValueError, match="`y` must not be masked"):
        quick().fit(X, np.ma.masked_array(Y, mask))
    with pytest.raises(ValueError, match="`X` must not be masked"):
        quick().fit(np.ma.masked_array(X, np.stack([mask, mask], axis=1)), Y)
    with pytest.raises(ValueError, match="`sample_weight` must not be masked"):
        quick().fit(X, Y, np.ma.masked_array(np.ones(len(Y)), mask))


@pytest.mark.parametrize("name", ["fit", "partial_fit", "fold_in"])
def test_a_pair_that_stands_twice_is_named_by_its_ids(name: str) -> None:
    completer = quick().fit(X, Y)
    row = "ann" if name == "fold_in" else X[3, 0]
    pairs = [(row, X[4, 1]), (row, X[3, 1]), (row, X[4, 1])]
    with pytest.raises(ValueError, match=rf"got \({row}, {X[4, 1]}\) at positions 0 and 2 .*duplicates"):
        getattr(completer, name)(pairs, [1.0, 2.0, 3.0])


@pytest.mark.parametrize("validation", [([], []), ([(1, 2)], [NAN]), ([(1,)], [2.0])])
def test_errors_of_validation_ratings_say_whose_they_are(validation: Any) -> None:
    with pytest.raises(ValueError, match="`validation`: `"):
        quick().fit(X, Y, validation=validation)


TRIPLES = np.column_stack([X, Y])


@pytest.mark.parametrize(
    "given",
    [
        TRIPLES,
        TRIPLES.tolist(),
        TRIPLES.T,
        (X[:, 0], X[:, 1], Y),
        np.column_stack([TRIPLES, np.arange(len(Y))]),
    ],
    ids=["array", "list", "transposed", "columns", "with times"],
)
def test_ids_and_ratings_in_one_array_are_refused_with_what_to_call_instead(given: Any) -> None:
    with pytest.raises(
        ValueError, match=r"must be unambiguous.*; for ids and ratings call fit\(X"
    ) as refused:
        quick().fit(given)
    array = np.asarray(given)
    array = array.T if "X.T[:, :2], X.T[:, 2]" in str(refused.value) else array
    assert np.array_equal(quick().fit(array[:, :2], array[:, 2]).predict(X), EXPECTED)


def test_triples_that_lack_a_rating_are_no_matrix_either() -> None:
    with pytest.raises(ValueError, match="must be unambiguous"):
        quick().fit(np.vstack([TRIPLES, [1, 2, NAN]]))


def test_an_array_that_lacks_a_rating_is_a_matrix_whatever_its_width() -> None:
    matrix = np.array([[1.0, 2.0, NAN], [2.0, 4.0, 1.0], [3.0, 5.0, 2.0], [1.0, NAN, 2.0], [2.0, 3.0, 1.0]])
    assert quick().fit(matrix).model_.shape == (5, 3)
    with pytest.raises(ValueError, match="of triples, the third column"):
        quick().fit([("ann", "a", 1.0), ("bob", "b", 2.0)])
