"""Rating errors: sums that parts add up to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from dmf_fast.evaluation import RatingErrors

RATINGS = st.lists(
    st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(1e-3, 10)), min_size=1, max_size=30
)


@given(RATINGS, st.booleans())
def test_rmse_and_mae_are_those_of_scikit_learn(
    ratings: list[tuple[float, float, float]], weighted: bool
) -> None:
    predictions, values, weights = map(np.array, zip(*ratings, strict=True))
    given_weights = weights if weighted else None

    errors = RatingErrors.of(predictions, values, given_weights)

    expected = root_mean_squared_error(values, predictions, sample_weight=given_weights)
    assert errors.rmse == pytest.approx(expected, rel=1e-12)
    expected = mean_absolute_error(values, predictions, sample_weight=given_weights)
    assert errors.mae == pytest.approx(expected, rel=1e-12)


def test_rmses_are_not_averaged_but_squared_errors_and_counts_summed() -> None:
    small, large = RatingErrors.of([3.0], [0.0]), RatingErrors.of([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])

    # (9 + 3 · 1) / 4 = 3; the mean of the RMSEs 3 and 1 would be 2.
    assert (small + large).rmse == math.sqrt(3)
    assert (small + large).mae == 1.5
    assert (small + large).count == 4


@given(RATINGS, st.integers(0, 30))
def test_parts_add_up_to_the_whole(ratings: list[tuple[float, float, float]], cut: int) -> None:
    predictions, values, weights = map(np.array, zip(*ratings, strict=True))

    parts = [
        RatingErrors.of(predictions[part], values[part], weights[part])
        for part in (slice(cut), slice(cut, None))
    ]

    whole = RatingErrors.of(predictions, values, weights)
    united = sum(parts, start=RatingErrors())
    assert united.count == whole.count
    assert united.rmse == pytest.approx(whole.rmse, rel=1e-12)
    assert united.mae == pytest.approx(whole.mae, rel=1e-12)


def test_nothing_measured_has_no_rmse_rather_than_nan() -> None:
    nothing = RatingErrors.of([], [])

    assert (nothing.count, nothing.rmse, nothing.mae) == (0, None, None)
    assert nothing == RatingErrors()
    assert RatingErrors.of([1.0], [2.0], [0.0]).rmse is None


def test_huge_ratings_of_either_sign_are_measured() -> None:
    assert RatingErrors.of([1e120, 0.0], [-1e120, 0.0]).rmse == pytest.approx(2e120 / math.sqrt(2))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.0], [1.0, 2.0]), ValueError, "`predictions` must hold one number for each of the 2"),
        (([math.nan], [1.0]), ValueError, r"`predictions` must be finite, got predictions\[0\]"),
        (([1.0], [math.inf]), ValueError, "`values` must be finite"),
        (([1e200], [1.0]), ValueError, "`predictions` must be at most 1e\\+140 in magnitude"),
        (([1.0], [1.0], [-1.0]), ValueError, "`weights` must not be negative"),
        ((["a"], [1.0]), TypeError, "`predictions` must hold real numbers"),
        (([[1.0]], [1.0]), ValueError, "`predictions` must be one-dimensional"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: tuple[list[float], ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        RatingErrors.of(*arguments)


def test_ratings_of_the_largest_size_are_measured_and_the_next_ones_refused() -> None:
    assert RatingErrors.of([1e140], [0.0]).rmse == 1e140
    with pytest.raises(ValueError, match=r"at most 1e\+140 in magnitude, got predictions\[1\] = -1e\+140"):
        RatingErrors.of([0.0, -math.nextafter(1e140, math.inf)], [0.0, 0.0])


def test_sums_and_means_are_reported() -> None:
    errors = RatingErrors.of([3.0, 1.0], [1.0, 2.0], [1.0, 3.0])
    assert errors.as_dict() == {
        "count": 2, "weight": 4.0, "sum_of_squared_errors": 7.0, "sum_of_absolute_errors": 5.0,
        "rmse": math.sqrt(1.75), "mae": 1.25,
    }  # fmt: skip
    assert errors + errors == RatingErrors(4, 8.0, 14.0, 10.0)
