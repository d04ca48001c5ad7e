"""The mean, and biases that solve a ridge regression."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dmf_fast import Observations
from dmf_fast.evaluation import Biases, GlobalMean, HeldOut, RatingErrors, Shrinkage, chosen_biases, errors_of


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 30), st.floats(0.01, 30), st.booleans())
def test_biases_are_the_ridge_regression_on_rows_and_columns(
    seed: int, row_strength: float, column_strength: float, weighted: bool
) -> None:
    random = np.random.default_rng(seed)
    rows, columns = np.nonzero(random.random((5, 7)) < 0.5)
    if not len(rows):
        rows, columns = np.array([4]), np.array([6])
    values = random.normal(3, 2, len(rows))
    weights = random.uniform(0.1, 3, len(rows)) if weighted else None
    train = Observations(rows, columns, values, (5, 7), weights=weights)

    biases = Biases.fit(train, Shrinkage(row_strength, column_strength))

    weight = np.ones(len(rows)) if weights is None else weights
    design = np.hstack((np.eye(5)[rows], np.eye(7)[columns]))
    ridge = np.diag([row_strength] * 5 + [column_strength] * 7)
    mean = (weight @ values) / weight.sum()
    both = np.linalg.solve(design.T * weight @ design + ridge, design.T @ (weight * (values - mean)))
    assert biases.mean == pytest.approx(mean)
    np.testing.assert_allclose(np.append(biases.row_biases, biases.column_biases), both, atol=1e-6)


def test_unknown_ids_get_the_mean_and_the_bias_that_is_known() -> None:
    biases = Biases(3.0, np.array([0.5, -0.5]), np.array([0.25, 1.0]), Shrinkage())

    predictions = biases.predict(np.array([0, 1, -1, -1]), np.array([1, -1, 0, -1]))

    assert predictions.tolist() == [4.5, 2.5, 3.25, 3.0]


def test_constant_ratings_one_row_and_one_column_leave_no_bias() -> None:
    for train in (Observations([0, 0, 1], [0, 1, 1], [4.0, 4.0, 4.0]), Observations([0], [0], [4.0])):
        assert GlobalMean.fit(train).mean == 4.0
        everywhere = np.array([0, -1])
        assert Biases.fit(train).predict(everywhere, everywhere).tolist() == [4.0, 4.0]


@pytest.mark.parametrize("scale", [1e-100, 1e-8, 1e8, 1e100])
def test_biases_scale_with_the_ratings(scale: float) -> None:
    rows, columns, values = [0, 0, 1, 2], [0, 1, 1, 0], np.array([-3.0, 1.0, 2.0, 9.0])

    unscaled, scaled = (Biases.fit(Observations(rows, columns, factor * values)) for factor in (1.0, scale))

    np.testing.assert_allclose(scaled.row_biases / scale, unscaled.row_biases, rtol=1e-6)
    np.testing.assert_allclose(scaled.column_biases / scale, unscaled.column_biases, rtol=1e-6)


def test_validation_ratings_choose_the_shrinkage() -> None:
    random = np.random.default_rng(0)
    rows, columns = np.divmod(random.permutation(60 * 40)[:1200], 40)
    noise = random.normal(0, 1, len(rows))
    strong = random.normal(0, 3, 60)[rows] + random.normal(0, 3, 40)[columns]
    for values, expected in ((strong + 0.1 * noise, {1.0}), (noise, {30.0, 300.0})):
        train, validation = Observations(rows, columns, values, (60, 40)).split(0.3, seed=0)

        (chosen,) = chosen_biases([(train, HeldOut.of(validation))])

        assert {chosen.shrinkage.rows, chosen.shrinkage.columns} <= expected


def test_where_there_is_only_noise_biases_are_as_good_as_the_mean() -> None:
    random = np.random.default_rng(0)
    rows, columns = np.divmod(random.permutation(300 * 200)[:9000], 200)
    stars = random.integers(1, 6, len(rows)).astype(np.float32)
    rest, test = Observations(rows, columns, stars, (300, 200)).split(0.2, seed=0)
    train, validation = rest.split(0.2, seed=1)

    (biases,) = chosen_biases([(train, HeldOut.of(validation))])

    of_biases, of_mean = (errors_of(one, HeldOut.of(test)).rmse for one in (biases, GlobalMean.fit(train)))
    assert of_biases is not None
    assert of_mean is not None
    assert of_biases < 1.003 * of_mean


SQUARE = Observations([0, 0, 1, 1], [0, 1, 0, 1], [1.0, 3.0, 3.0, 5.0])
# The biases of the square tend to 1 and 5 on its diagonal, the less they are shrunk, and to 3 otherwise.


@pytest.mark.parametrize(("weights", "strength"), [([1.0, 0.0], 1.0), ([9.0, 1.0], 1.0), ([0.0, 1.0], 300.0)])
def test_weights_of_the_validation_ratings_choose_the_shrinkage(
    weights: list[float], strength: float
) -> None:
    validation = HeldOut([0, 1], [0, 1], [1.0, 3.0], weights=weights)
    (chosen,) = chosen_biases([(SQUARE, validation)])
    assert chosen.shrinkage == Shrinkage(strength, strength)


@pytest.mark.parametrize(("value", "strength"), [(-9.0, 1.0), (9.0, 300.0)])
def test_all_folds_choose_one_shrinkage_for_all(value: float, strength: float) -> None:
    """In the place of 1, −9 wants as little shrinkage as can be and 9 as much, each more than 3 does."""
    folds = [(SQUARE, HeldOut([0], [0], [value])), (SQUARE, HeldOut([1], [1], [3.0]))]
    for parts in (folds, folds[::-1]):
        assert [one.shrinkage for one in chosen_biases(parts)] == [Shrinkage(strength, strength)] * 2


def test_rows_and_columns_are_shrunk_apart() -> None:
    """Rows differ on what is held out as they do in training, and columns do not."""
    train = Observations([0, 0, 1, 1], [0, 1, 0, 1], [1.0, 3.0, 5.0, 7.0])
    (chosen,) = chosen_biases([(train, HeldOut([0, 0, 1, 1], [0, 1, 0, 1], [2.0, 2.0, 6.0, 6.0]))])
    assert chosen.shrinkage == Shrinkage(rows=1.0, columns=300.0)


def test_entries_without_weight_count_nowhere() -> None:
    more = Observations([0, 0, 1, 1], [0, 1, 0, 1], [1.0, 3.0, 3.0, 50.0], weights=[2.0, 2.0, 2.0, 0.0])
    less = Observations([0, 0, 1], [0, 1, 0], [1.0, 3.0, 3.0], (2, 2), weights=[2.0, 2.0, 2.0])
    for train in (more, less):
        assert GlobalMean.fit(train).mean == pytest.approx(7 / 3)
    found, expected = Biases.fit(more), Biases.fit(less)
    np.testing.assert_allclose(found.row_biases, expected.row_biases)
    np.testing.assert_allclose(found.column_biases, expected.column_biases)


def test_no_training_ratings_are_refused() -> None:
    for train in (Observations([], [], [], (2, 2)), Observations([0], [0], [1.0], weights=[0.0])):
        for baseline in (GlobalMean, Biases):
            with pytest.raises(ValueError, match="`train` must hold an entry of positive weight"):
                baseline.fit(train)
    with pytest.raises(ValueError, match="`rows` must be above 0"):
        Shrinkage(rows=0)


def test_biases_on_movielens_100k_are_as_good_as_published(movielens_folder: Path) -> None:
    parts = [np.loadtxt(movielens_folder / f"u1.{name}", dtype=np.int64) for name in ("base", "test")]
    train, test = (
        Observations(part[:, 0] - 1, part[:, 1] - 1, part[:, 2], (943, 1682), dtype=torch.float64)
        for part in parts
    )

    held_out = HeldOut.of(test)
    predictions = Biases.fit(train).predict(held_out.rows, held_out.columns)

    # Surprise's documentation has 0.944 for its biases by 5 random folds; u1 is the hardest official fold.
    rmse = RatingErrors.of(predictions, held_out.values).rmse
    assert rmse is not None
    assert 0.94 < rmse < 0.965


def test_without_a_validation_rating_the_shrinkage_is_the_usual_one() -> None:
    train = Observations([0, 0, 1], [0, 1, 0], [1.0, 2.0, 4.0])
    for nothing in (HeldOut([], [], []), HeldOut([-1], [-1], [5.0])):
        assert chosen_biases([(train, nothing)])[0].shrinkage == Shrinkage()


@pytest.mark.parametrize("tolerance", [1e-8, 1e-3, 1.0])
@pytest.mark.parametrize("value", [0.0, 1e-30, 3.5])
def test_ratings_that_are_all_equal_leave_no_biases_from_any_start(value: float, tolerance: float) -> None:
    train = Observations([0, 0, 1, 1], [0, 1, 0, 1], [value] * 4, dtype=torch.float32)
    start = Biases(0.0, np.array([1e-170, -1e-170]), np.array([2e-170, 1e-170]), Shrinkage())
    biases = Biases.fit(train, start=start, tolerance=tolerance)
    assert np.abs(biases.row_biases).max() <= 1e-6 * max(value, 1e-160)


@pytest.mark.parametrize("scale", [1e-150, 1e160])
def test_biases_of_values_whose_squares_are_no_numbers_are_finite(scale: float) -> None:
    train = Observations([0, 0, 1, 1], [0, 1, 0, 1], np.array([1.0, 3.0, 3.0, 5.0]) * scale)
    plain = Biases.fit(Observations([0, 0, 1, 1], [0, 1, 0, 1], [1.0, 3.0, 3.0, 5.0], dtype=torch.float64))
    np.testing.assert_allclose(Biases.fit(train).row_biases, scale * plain.row_biases, rtol=1e-6)
