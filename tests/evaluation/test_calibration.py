"""Calibration: mean prediction and mean value, bin by bin."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmf_fast.evaluation import calibration


def test_few_distinct_values_are_a_bin_each() -> None:
    values = np.array([5.0, 1.0, 5.0, 3.0])
    predictions = np.array([4.0, 2.0, 5.0, 3.0])

    bins = calibration(values, predictions, values)

    assert [(part.lowest, part.highest, part.count) for part in bins] == [(1, 1, 1), (3, 3, 1), (5, 5, 2)]
    assert [part.mean_prediction for part in bins] == [2.0, 3.0, 4.5]
    assert [part.bias for part in bins] == [1.0, 0.0, -0.5]


def test_many_distinct_predictions_are_binned_by_quantiles() -> None:
    predictions = np.random.default_rng(0).permutation(1000) / 1000
    values = predictions + 0.5

    bins = calibration(predictions, predictions, values, bins=4)

    assert [part.count for part in bins] == pytest.approx([250] * 4, abs=1)
    assert [part.mean_prediction for part in bins] == pytest.approx([0.125, 0.375, 0.625, 0.875], abs=2e-3)
    assert [part.bias for part in bins] == pytest.approx([-0.5] * 4)


@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(-5, 5)), max_size=80), st.integers(1, 12))
def test_bins_part_the_keys_and_keep_every_rating(ratings: list[tuple[float, float]], bins: int) -> None:
    keys, values = np.array(ratings).reshape(-1, 2).T

    parts = calibration(keys, keys, values, bins)

    assert sum(part.count for part in parts) == len(ratings)
    assert sum(part.count * part.mean_value for part in parts) == pytest.approx(values.sum(), abs=1e-9)
    for part in parts:
        inside = (keys >= part.lowest) & (keys <= part.highest)
        assert part.count == inside.sum() > 0
        assert part.mean_value == pytest.approx(values[inside].mean(), abs=1e-9)
    assert len(parts) <= max(bins, 20)
    assert all(lower.highest < upper.lowest for lower, upper in pairwise(parts))


def test_constant_ratings_are_one_bin_and_no_ratings_none() -> None:
    constant = np.full(100, 4.0)

    assert [part.count for part in calibration(constant, constant, constant)] == [100]
    assert calibration(np.empty(0), np.empty(0), np.empty(0)) == ()


@pytest.mark.parametrize(("distinct", "bins"), [(20, 20), (21, 10)])
def test_up_to_twenty_distinct_keys_have_a_bin_each_and_more_have_ten(distinct: int, bins: int) -> None:
    keys = np.arange(distinct, dtype=np.float64)
    parts = calibration(keys, keys + 0.25, keys)
    assert len(parts) == bins
    assert {part.bias for part in parts} == {0.25}
    assert parts[0].as_dict() == {
        "lowest": 0.0, "highest": parts[0].highest, "count": parts[0].count,
        "mean_prediction": parts[0].mean_value + 0.25, "mean_value": parts[0].mean_value, "rmse": 0.25,
        "bias": 0.25,
    }  # fmt: skip


@pytest.mark.parametrize(("bins", "error"), [(0, ValueError), (2.5, TypeError)])
def test_a_number_of_bins_must_be_a_positive_integer(bins: float, error: type[Exception]) -> None:
    keys = np.arange(30.0)
    with pytest.raises(error, match="`bins` must be"):
        calibration(keys, keys, keys, bins=bins)  # type: ignore[arg-type]
