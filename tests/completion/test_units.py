"""Values in a separate unit, and measurements in it: numbers by hand."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
import torch

from dmf_fast import Observations
from dmf_fast.completion.units import in_unit, measured, measured_history, options_in_unit, value_unit
from dmf_fast.training import FitOptions, History


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([], 1.0),
        ([0.0, 0.0], 1.0),
        ([0.0, -3.0], 1.0),
        ([1e-6], 2.0**-20),  # both ends are far enough out
        ([1.01e-6], 1.0),
        ([9.9e5], 1.0),
        ([1e6], 2.0**20),
        ([1.0, -3e9], 2.0**31),  # 2³¹ is nearer than 2³² in the logarithm
        ([1e-30, 1e-40], 2.0**-100),
    ],
)
def test_the_unit_is_the_power_of_two_next_to_the_largest_value_where_that_is_far_from_one(
    values: list[float], unit: float
) -> None:
    places = list(range(len(values)))
    entries = Observations(places, places, values, (9, 9), dtype=torch.float64)
    assert value_unit(entries) == unit


def test_values_are_divided_and_weights_stay() -> None:
    entries = Observations([0, 1], [0, 1], [6.0, -4.0], weights=[1.0, 3.0])
    assert in_unit(entries, 1.0) is entries
    moved = in_unit(entries, 4.0)
    assert (moved.values.tolist(), moved.weights.tolist()) == ([1.5, -1.0], [1.0, 3.0])
    assert moved.dtype == torch.float32


def test_a_threshold_of_the_loss_is_in_the_square_of_the_unit_and_no_other_option_is() -> None:
    options = FitOptions(train_loss_threshold=8.0, gradient_norm_threshold=8.0, patience=3)
    assert options_in_unit(options, 4.0) == FitOptions(
        train_loss_threshold=0.5, gradient_norm_threshold=8.0, patience=3
    )
    assert options_in_unit(FitOptions(), 4.0) == FitOptions()
    assert options_in_unit(FitOptions(train_loss_threshold=1e300), 1e200).train_loss_threshold == 1e-100


@pytest.mark.parametrize(
    ("name", "power"),
    [
        ("train_loss", 2),
        ("reconstruction_mse", 2),
        ("validation_rmse", 1),
        ("test_rmse", 1),
        ("singular_value_1", 1),
        ("singular_value_12", 1),
        ("step", 0),
        ("seconds", 0),
        ("effective_rank", 0),
    ],
)
def test_what_was_measured_comes_back_in_the_values_themselves(name: str, power: int) -> None:
    assert measured(name, 3.0, 4.0) == 3.0 * 4.0**power
    assert measured(name, None, 4.0) is None
    history = History(pa.table({name: pa.array([3.0, None], pa.float64())}))
    assert measured_history(history, 4.0).table[name].to_pylist() == [3.0 * 4.0**power, None]
    assert measured_history(history, 1.0) is history


def test_the_square_of_the_unit_may_leave_float64() -> None:
    assert measured("train_loss", 1e-300, 1e200) == pytest.approx(1e100)
    assert math.isfinite(measured("train_loss", 1e-300, 1e300) or math.inf)


def test_a_history_keeps_the_types_of_its_columns() -> None:
    history = History.of_rows([{"step": 0, "test_rmse": 1.0}, {"step": 5, "test_rmse": 2.0}])
    found = measured_history(history, 2.0)
    assert found.table.schema == history.table.schema
    assert dict(found) == {"step": [0, 5], "test_rmse": [2.0, 4.0]}
