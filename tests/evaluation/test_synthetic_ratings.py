"""Ratings like those of MovieLens: what they were calibrated to, and what the libraries are given."""

from __future__ import annotations

import numpy as np
import pytest

from bench.rating_problems import ratings_problem
from bench.rival_fits import LIBRARIES, Library, Predict, Settings
from bench.rival_libraries import measured
from bench.synthetic_ratings import movielens_like
from dmf_fast import Observations
from dmf_fast.evaluation import Biases, HeldOut, RatingErrors


def test_ratings_have_the_size_mean_spread_and_biases_of_movielens_1m() -> None:
    rows, columns, values = movielens_like((6040, 3706), 1_000_209, seed=2)

    assert (np.diff(np.sort(rows * 3706 + columns)) > 0).all()
    assert (np.bincount(values.astype(np.int64))[1:] > 0).tolist() == [True] * 5
    assert np.bincount(rows, minlength=6040).min() >= 20
    assert np.bincount(columns, minlength=3706).min() >= 1
    assert values.mean() == pytest.approx(3.58, abs=0.1)
    assert values.std() == pytest.approx(1.117, abs=0.03)
    test, train = slice(100_000), slice(100_000, None)  # they are in a random order
    biases = Biases.fit(Observations(rows[train], columns[train], values[train], (6040, 3706)))
    errors = RatingErrors.of(biases.predict(rows[test], columns[test]), values[test])
    assert errors.rmse == pytest.approx(0.908, abs=0.015)


@pytest.mark.parametrize(("shape", "entries"), [((5, 7), 17), ((300, 200), 30_000), ((30, 2), 30)])
def test_small_ratings_are_distinct_as_many_as_asked_and_the_same_again(
    shape: tuple[int, int], entries: int
) -> None:
    first, again, other = (movielens_like(shape, entries, seed) for seed in (0, 0, 1))

    rows, columns, values = first
    assert len(np.unique(rows * shape[1] + columns)) == len(values) == entries
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert not np.array_equal(values, other[2])
    with pytest.raises(ValueError, match="`entries` must be from"):
        movielens_like((3, 3), 9, seed=0)


def test_tuning_finds_the_setting_that_the_validation_ratings_want(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = ratings_problem((60, 40), 1000)
    assert [len(part) for part in (problem.test, problem.validation, problem.train)] == [100, 45, 855]

    def fit(ratings: HeldOut, shape: tuple[int, int], settings: Settings, threads: int) -> Predict:
        return lambda rows, columns: np.full(len(rows), settings["level"])

    tried = (("level", (2.0, 3.5, 9.0)), ("iterations", (4,)))
    library = Library(fit, {"level": 0.0, "k": 1, "iterations": 2}, tried, "iterations", "k", 1)
    monkeypatch.setitem(LIBRARIES, "constant", library)

    outcome = measured("constant", problem, threads=1, repeats=1)

    assert outcome.settings["level"] == 3.5
    assert outcome.test_rmse == pytest.approx(np.sqrt(np.mean((problem.test.values - 3.5) ** 2)))
