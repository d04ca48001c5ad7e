"""Weights wherever a weighted user expects them, by numbers that were worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dmf_fast import Observations
from dmf_fast.completion import CompletionOptions
from dmf_fast.completion.folds import biases_of_folds
from dmf_fast.data import IdMap
from dmf_fast.estimator import updates
from dmf_fast.estimator.fitted import FittedModel
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.serving import Predictor
from tests.estimator.ratings import quick, ratings

X, Y = ratings()
WEIGHTS = np.where(np.arange(len(Y)) % 3, 0.25, 4.0)

# Two rows with the factors 1 and 3, three columns with 2, 1 and −1; the last has no rating.
A, B, MEAN, NOISE = (1.0, 3.0), (2.0, 1.0, -1.0), 0.5, 0.7
ROW_VARIANCE, COLUMN_VARIANCE = 1.0, 0.25  # of 1 and 3, of 2 and 1


def fitted() -> FittedModel:
    w1, w2 = (torch.tensor(one, dtype=torch.float64) for one in (B, A))
    model = DeepMatrixFactorization.of_factors([w1[None, :], w2[:, None]])
    model.mean.fill_(MEAN)
    observed = Observations(
        [0, 0, 1], [0, 1, 1], [2.0, 4.0, 1.0], (2, 3), weights=[2.0, 1.0, 3.0], dtype=torch.float64
    )
    ids = IdMap(["ann", "bob"]), IdMap(["a", "b", "c"])
    return FittedModel(Predictor(model, MEAN, -9.0, 9.0, clip=False), *ids, NOISE, observed)


def rating(column: int, value: float, weight: float, shape: tuple[int, int] = (2, 3)) -> Observations:
    return Observations([0], [column], [value], shape, weights=[weight], dtype=torch.float64)


def test_a_new_rating_moves_its_row_and_then_its_column_by_its_weight() -> None:
    after = updates.partial_fit(fitted(), rating(2, 5.0, weight=4.0))
    residual = 5.0 - (MEAN + A[0] * B[2])
    precision = 2 * B[0] ** 2 + 1 * B[1] ** 2 + 4 * B[2] ** 2
    row = A[0] + ROW_VARIANCE * 4 * B[2] * residual / (ROW_VARIANCE * precision + NOISE)
    left = 5.0 - (MEAN + row * B[2])
    column = B[2] + COLUMN_VARIANCE * 4 * row * left / (COLUMN_VARIANCE * 4 * row**2 + NOISE)
    assert after.model.factors[-1].flatten().tolist() == pytest.approx([row, A[1]])
    assert after.model.factors[0].flatten().tolist() == pytest.approx([B[0], B[1], column])
    assert after.observed.values.tolist() == [2.0, 4.0, 1.0, 5.0]
    assert after.observed.weights.tolist() == [2.0, 1.0, 3.0, 4.0]


def test_a_rating_that_is_replaced_takes_back_what_it_weighed() -> None:
    after = updates.partial_fit(fitted(), rating(1, 5.0, weight=4.0))
    predicted = MEAN + A[0] * B[1]
    residual = (5.0 - predicted) - 1 / 4 * (4.0 - predicted)
    row_change = ROW_VARIANCE * 4 * B[1] * residual / (ROW_VARIANCE * (2 * B[0] ** 2 + 4 * B[1] ** 2) + NOISE)
    row, left = A[0] + row_change, residual - row_change * B[1]
    precision = 3 * A[1] ** 2 + 4 * row**2
    column = B[1] + COLUMN_VARIANCE * 4 * row * left / (COLUMN_VARIANCE * precision + NOISE)
    assert after.model.factors[-1].flatten().tolist() == pytest.approx([row, A[1]])
    assert after.model.factors[0].flatten().tolist() == pytest.approx([B[0], column, B[2]])
    assert after.observed.values.tolist() == [2.0, 1.0, 5.0]
    assert after.observed.weights.tolist() == [2.0, 3.0, 4.0]


def test_a_newcomer_begins_at_the_mean_and_moves_by_the_weights_of_its_ratings() -> None:
    after = updates.fold_in(fitted(), 0, IdMap(["eve"]), rating(1, 5.0, weight=4.0, shape=(1, 3)))
    mean = (A[0] + A[1]) / 2
    residual = 5.0 - (MEAN + mean * B[1])
    row = mean + ROW_VARIANCE * 4 * B[1] * residual / (ROW_VARIANCE * 4 * B[1] ** 2 + NOISE)
    place = after.row_ids.indices(["eve"])
    assert after.model.factors[-1][place].item() == pytest.approx(row)
    assert sorted(after.observed.weights.tolist()) == [1.0, 2.0, 3.0, 4.0]


def test_the_noise_of_a_training_without_validation_is_its_weighted_error() -> None:
    completer = quick(validation_fraction=0.0, clip=False).fit(X, Y, WEIGHTS)
    squares = (completer.predict(X) - Y) ** 2
    assert completer.noise_variance_ == pytest.approx(np.average(squares, weights=WEIGHTS), rel=1e-4)
    assert completer.noise_variance_ != pytest.approx(squares.mean(), rel=1e-2)


def test_a_weight_of_two_is_a_rating_that_is_given_twice() -> None:
    twice = np.arange(len(Y)) < 200
    repeated = quick(duplicates="mean").fit(
        np.concatenate([X, X[twice]]), np.concatenate([Y, Y[twice]]), np.ones(len(Y) + twice.sum())
    )
    assert np.array_equal(repeated.predict(X), quick().fit(X, Y, 1.0 + twice).predict(X))
    assert not np.array_equal(repeated.predict(X), quick().fit(X, Y).predict(X))


def test_weights_that_are_all_larger_train_the_same_factors() -> None:
    one, other = (quick(bias=False).fit(X, Y, scale * WEIGHTS) for scale in (1.0, 4.0))
    np.testing.assert_allclose(other.predict(X), one.predict(X), atol=1e-3)
    assert other.noise_variance_ == pytest.approx(one.noise_variance_, rel=1e-3)


def test_validation_ratings_without_weight_do_not_choose_the_shrinkage_of_the_biases() -> None:
    rows, columns = (torch.from_numpy(np.unique(X[:, side], return_inverse=True)[1]) for side in (0, 1))
    train = Observations(rows[:400], columns[:400], Y[:400], (40, 30))
    half = torch.arange(200) % 2
    # A half of the ratings is what it is; the other, for which no bias is too small, is all the mean.
    values = torch.where(half == 1, torch.from_numpy(Y[400:]), Y[:400].mean())
    whole = Observations(rows[400:], columns[400:], values, (40, 30))
    options = CompletionOptions()

    def chosen(validation: Observations) -> tuple[float, float]:
        (biases,) = biases_of_folds([(train, validation)], options)
        assert biases is not None
        return biases.shrinkage.rows, biases.shrinkage.columns

    weighted = whole.with_values(whole.values, half)
    assert chosen(weighted) == chosen(whole.select(half == 1))
    assert chosen(weighted) != chosen(whole)
