"""New rows and columns without another training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dmf_fast.data import read_ratings
from tests.estimator.ratings import quick, ratings

X, Y = ratings(rows=60, count=1200)
NEWCOMER = X[:, 0] >= 1000 + 7 * 50  # the last ten rows


def rmse(predictions: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean((predictions - values) ** 2)))


def halves() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    even = np.arange(len(X)) % 2 == 0
    return NEWCOMER & even, NEWCOMER & ~even


def test_newcomers_are_predicted_far_better_than_by_the_biases_of_columns() -> None:
    given, test = halves()
    completer = quick().fit(X[~NEWCOMER], Y[~NEWCOMER])
    fallback = rmse(completer.predict(X[test]), Y[test])
    assert rmse(completer.fold_in(X[given], Y[given]).predict(X[test]), Y[test]) < 0.6 * fallback


def test_new_columns_are_folded_in_likewise() -> None:
    given, test = halves()
    swapped = X[:, ::-1]
    completer = quick().fit(swapped[~NEWCOMER], Y[~NEWCOMER])
    fallback = rmse(completer.predict(swapped[test]), Y[test])
    folded = completer.fold_in(swapped[given], Y[given], axis=1)
    assert rmse(folded.predict(swapped[test]), Y[test]) < 0.6 * fallback


@pytest.mark.parametrize("axis", [0, 1])
def test_a_row_or_column_under_another_name_is_predicted_nearly_as_it_was_trained(axis: int) -> None:
    completer = quick(clip=False).fit(X, Y)
    twin = X.copy()
    twin[:, axis] += 1_000_000
    trained = completer.predict(X)
    completer.fold_in(twin, Y, axis=axis)
    assert rmse(completer.predict(twin), trained) < 0.25 * trained.std()


def test_nothing_else_changes() -> None:
    completer = quick().fit(X[~NEWCOMER], Y[~NEWCOMER])
    before = completer.predict(X[~NEWCOMER])
    completer.fold_in(X[NEWCOMER], Y[NEWCOMER])
    assert np.array_equal(completer.predict(X[~NEWCOMER]), before)


def test_newcomers_may_have_ids_that_sort_anywhere() -> None:
    completer = quick().fit(X, Y)
    before = completer.predict(X)
    newcomers = np.array([[10**9, X[0, 1]], [-5, X[1, 1]], [1001, X[2, 1]]])
    completer.fold_in(newcomers, [1.0, 5.0, 3.0])
    assert np.array_equal(completer.predict(X), before)
    predictions, known = completer.predict(newcomers, return_known=True)
    assert known.all()
    assert predictions[0] < predictions[1]


def test_integers_and_text_live_together_after_a_fold_in() -> None:
    completer = quick().fit(X, Y)
    before = completer.predict(X)
    completer.fold_in([("a new one", X[0, 1])], [4.0])
    assert np.array_equal(completer.predict(X), before)
    assert completer.predict([("a new one", X[0, 1])], return_known=True)[1].all()


def test_what_newcomers_have_rated_is_kept_and_not_recommended_to_them() -> None:
    given, _ = halves()
    completer = quick().fit(X[~NEWCOMER], Y[~NEWCOMER]).fold_in(X[given], Y[given])
    assert len(completer._fitted.observed) == (~NEWCOMER).sum() + given.sum()
    row = X[given][0, 0]
    rated = set(X[given][X[given][:, 0] == row, 1])
    everything = {column for column in completer.recommend([row], k=30).ids[0] if column is not None}
    assert everything == set(np.unique(X[:, 1])) - rated


def test_newcomers_take_further_ratings_by_partial_fit() -> None:
    given, test = halves()
    completer = quick().fit(X[~NEWCOMER], Y[~NEWCOMER]).fold_in(X[given], Y[given])
    before = rmse(completer.predict(X[test]), Y[test])
    assert rmse(completer.partial_fit(X[test], Y[test]).predict(X[test]), Y[test]) < before


def test_ratings_need_not_be_kept() -> None:
    given, test = halves()
    kept, dropped = (quick(keep_ratings=keep).fit(X[~NEWCOMER], Y[~NEWCOMER]) for keep in (True, False))
    for completer in (kept, dropped):
        completer.fold_in(X[given], Y[given])
    assert np.array_equal(dropped.predict(X[test]), kept.predict(X[test]))


@pytest.mark.parametrize("parameters", [{"depth": 1}, {"depth": 3}, {"bias": False}, {"dtype": "float64"}])
def test_models_of_every_kind_take_newcomers(parameters: dict[str, object]) -> None:
    given, test = halves()
    completer = quick(**parameters).fit(X[~NEWCOMER], Y[~NEWCOMER])
    fallback = rmse(completer.predict(X[test]), Y[test])
    assert rmse(completer.fold_in(X[given], Y[given]).predict(X[test]), Y[test]) < fallback


def test_known_rows_unknown_columns_and_other_axes_are_refused() -> None:
    completer = quick().fit(X, Y)
    with pytest.raises(ValueError, match=r"`X` must hold new row ids, got .* which is known; .*partial_fit"):
        completer.fold_in(X[:1], Y[:1])
    with pytest.raises(ValueError, match=r"known column ids, got 'z' in X\[0\]"):
        completer.fold_in([(-1, "z")], [1.0])
    with pytest.raises(ValueError, match="`axis` must be 0"):
        completer.fold_in([(-1, 0)], [1.0], axis=2)


def test_on_movielens_ten_ratings_place_a_user_whom_the_training_has_never_seen(
    movielens_folder: Path,
) -> None:
    given = read_ratings(movielens_folder / "u.data")
    pairs, values = np.stack([given.rows, given.columns], axis=1), given.values.astype(np.float64)
    order = np.random.default_rng(0).permutation(len(values))
    pairs, values = pairs[order], values[order]
    held = pairs[:, 0] % 7 == 0
    completer = quick(hidden=32).fit(pairs[~held], values[~held])
    known = completer.predict(np.stack([np.zeros_like(pairs[:, 0]) + 1, pairs[:, 1]], 1), return_known=True)[
        1
    ]
    held &= known
    pairs, values = pairs[held], values[held]
    by_user = np.argsort(pairs[:, 0], kind="stable")
    starts = np.searchsorted(pairs[by_user, 0], pairs[by_user, 0])
    first_ten = np.zeros(len(pairs), dtype=bool)
    first_ten[by_user] = np.arange(len(pairs)) - starts < 10
    fallback = rmse(completer.predict(pairs[~first_ten]), values[~first_ten])
    completer.fold_in(pairs[first_ten], values[first_ten])
    assert rmse(completer.predict(pairs[~first_ten]), values[~first_ten]) < fallback - 0.04
