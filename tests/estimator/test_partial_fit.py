"""New ratings of known ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dmf_fast.data import read_ratings
from tests.estimator.ratings import quick, ratings

X, Y = ratings(count=900)
OLD, NEW, TEST = slice(0, 400), slice(400, 750), slice(750, 900)


def rmse(predictions: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean((predictions - values) ** 2)))


def test_the_first_call_is_fit() -> None:
    assert np.array_equal(quick().partial_fit(X, Y).predict(X), quick().fit(X, Y).predict(X))


def test_new_ratings_lower_the_error_on_others() -> None:
    completer = quick().fit(X[OLD], Y[OLD])
    before = rmse(completer.predict(X[TEST]), Y[TEST])
    after = rmse(completer.partial_fit(X[NEW], Y[NEW]).predict(X[TEST]), Y[TEST])
    again = rmse(quick().fit(X[:750], Y[:750]).predict(X[TEST]), Y[TEST])
    assert after < before - 0.5 * (before - again)


def test_many_small_calls_give_about_what_one_gives() -> None:
    one, many = (quick(clip=False).fit(X[OLD], Y[OLD]) for _ in range(2))
    start = one.predict(X[TEST])
    one.partial_fit(X[NEW], Y[NEW])
    for part in np.array_split(np.arange(400, 750), 25):
        many.partial_fit(X[part], Y[part])
    moved = rmse(one.predict(X[TEST]), start)
    assert rmse(many.predict(X[TEST]), one.predict(X[TEST])) < 0.35 * moved


def test_a_rating_that_is_given_again_changes_nothing() -> None:
    completer = quick().fit(X[OLD], Y[OLD]).partial_fit(X[NEW], Y[NEW])
    before = completer.predict(X)
    completer.partial_fit(X[NEW], Y[NEW])
    np.testing.assert_allclose(completer.predict(X), before, atol=1e-6)
    assert len(completer._fitted.observed) == 750


def test_a_rating_that_stands_already_is_replaced() -> None:
    completer = quick(clip=False).fit(X[OLD], Y[OLD])
    before = completer.predict(X[:1])[0]
    raised = completer.partial_fit(X[:1], Y[:1] + 1.0).predict(X[:1])[0]
    assert before < raised < before + 1.0
    assert len(completer._fitted.observed) == 400
    assert (completer._fitted.observed.values - (Y[0] + 1.0)).abs().min() < 1e-5
    taken_back = completer.partial_fit(X[:1], Y[:1]).predict(X[:1])[0]
    assert abs(taken_back - before) < 0.1 * (raised - before)


def test_only_the_rows_and_columns_that_are_concerned_move() -> None:
    completer = quick(clip=False).fit(X[OLD], Y[OLD])
    elsewhere = X[(X[:, 0] != X[0, 0]) & (X[:, 1] != X[0, 1])]
    before = completer.predict(elsewhere)
    completer.partial_fit(X[:1], Y[:1] + 3.0)
    assert np.array_equal(completer.predict(elsewhere), before)


def test_a_rating_that_weighs_more_moves_its_prediction_more() -> None:
    moved = [
        quick(clip=False)
        .fit(X[OLD], Y[OLD])
        .partial_fit(X[400:401], Y[400:401] + 3.0, [weight])
        .predict(X[400:401])
        for weight in (0.1, 1.0, 10.0)
    ]
    assert moved[0] < moved[1] < moved[2]


def test_what_is_new_widens_the_range_of_the_predictions() -> None:
    completer = quick().fit(X[OLD], Y[OLD])
    completer.partial_fit(np.repeat(X[:1], 1, axis=0), [1000.0])
    assert completer._fitted.predictor.highest == 1000.0


def test_an_unknown_id_is_refused_and_nothing_has_changed() -> None:
    completer = quick().fit(X[OLD], Y[OLD])
    before = completer.predict(X)
    with pytest.raises(ValueError, match=r"known row ids, got -5 in X\[1\] \(1 such pairs\).*fold_in"):
        completer.partial_fit([X[0], (-5, X[0, 1])], [1.0, 2.0])
    assert np.array_equal(completer.predict(X), before)


def test_without_kept_ratings_partial_fit_says_what_it_needs() -> None:
    completer = quick(keep_ratings=False).fit(X, Y)
    assert completer._fitted.observed is None
    with pytest.raises(ValueError, match="keep_ratings=True"):
        completer.partial_fit(X[:1], Y[:1])


@pytest.mark.parametrize("parameters", [{"depth": 1}, {"depth": 3}, {"bias": False}, {"dtype": "float64"}])
def test_models_of_every_kind_take_new_ratings(parameters: dict[str, object]) -> None:
    completer = quick(**parameters, clip=False).fit(X[OLD], Y[OLD])
    wanted = completer.predict(X[400:401]) + 2.0
    moved = completer.partial_fit(X[400:401], wanted).predict(X[400:401])
    assert wanted - 2.0 < moved < wanted


def test_on_movielens_a_tenth_of_the_ratings_helps_when_it_comes_later(movielens_folder: Path) -> None:
    given = read_ratings(movielens_folder / "u.data")
    pairs, values = np.stack([given.rows, given.columns], axis=1), given.values.astype(np.float64)
    order = np.random.default_rng(0).permutation(len(values))
    test, old, new = np.split(order, [10_000, 91_000])
    completer = quick(hidden=32).fit(pairs[old], values[old])
    new = new[completer.predict(pairs[new], return_known=True)[1]]
    before = rmse(completer.predict(pairs[test]), values[test])
    assert rmse(completer.partial_fit(pairs[new], values[new]).predict(pairs[test]), values[test]) < before
