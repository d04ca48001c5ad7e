"""When a run records, and what a row measures, against NumPy."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from dmf_fast.training.factor_measures import FactorMeasures
from torch import Tensor

from dmf_fast import Observations
from dmf_fast.training.history import history_table
from dmf_fast.training.recording import Recording

SHAPE = (9, 7)


def recorded(recording: Recording, last: int) -> list[int]:
    """All recorded steps from the first to the one that reaches ``last``."""
    steps = [recording.next_step(-1)]
    while steps[-1] < last:
        steps.append(recording.next_step(steps[-1]))
    return steps


def logarithmic_steps(per_decade: int, decades: int) -> list[int]:
    """Every step by its definition, in sixty digits."""
    getcontext().prec = 60
    powers = [Decimal(10) ** (Decimal(k) / per_decade) for k in range(per_decade * decades + 1)]
    return sorted({0, *(int(power.to_integral_value()) for power in powers)})


@pytest.mark.parametrize("per_decade", [1, 2, 3, 7, 20, 64, 100])
def test_logarithmic_steps_are_the_rounded_powers_each_once(per_decade: int) -> None:
    assert recorded(Recording(per_decade=per_decade), 10**12) == logarithmic_steps(per_decade, 12)


def test_twenty_steps_a_decade_are_recorded_unless_said_otherwise() -> None:
    assert recorded(Recording(), 10**6) == logarithmic_steps(20, 6)


@pytest.mark.parametrize("per_decade", [1, 3, 20, 333, 1000])
def test_powers_of_ten_are_recorded_exactly(per_decade: int) -> None:
    recording = Recording(per_decade=per_decade)
    for exponent in range(19):
        assert recording.next_step(10**exponent - 1) == 10**exponent
        assert recording.next_step(10**exponent) > 10**exponent


@pytest.mark.parametrize("recording", [Recording(every=7), Recording(per_decade=5), Recording()], ids=str)
def test_the_next_step_is_the_first_recorded_one_after_any_step(recording: Recording) -> None:
    steps = recorded(recording, 3000)
    assert all(before < after for before, after in pairwise(steps))
    for step in range(3000):
        assert recording.next_step(step) == next(later for later in steps if later > step)


def test_linear_steps_are_the_multiples() -> None:
    assert recorded(Recording(every=250), 1000) == [0, 250, 500, 750, 1000]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"every": 10, "per_decade": 3}, ValueError, "every=10, per_decade=3"),
        ({"every": 0}, ValueError, "`every` must be at least 1, got 0"),
        ({"every": 2.0}, TypeError, "`every` must be a whole number, got 2.0"),
        ({"per_decade": 0}, ValueError, "`per_decade` must be at least 1"),
        ({"per_decade": 1001}, ValueError, "`per_decade` must be at most 1000, got 1001"),
        ({"per_decade": "3"}, TypeError, "`per_decade` must be a whole number"),
        ({"singular_values": -1}, ValueError, "`singular_values` must be at least 0"),
        ({"singular_values": 1.5}, TypeError, "`singular_values` must be a whole number"),
        ({"norms": 1}, TypeError, "`norms` must be True or False, got 1"),
        ({"spectrum": None}, TypeError, "`spectrum` must be True or False"),
        ({"balancedness": "yes"}, TypeError, "`balancedness` must be True or False"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Recording(**options)


def make_factors(dims: tuple[int, ...] = (7, 5, 6, 9), dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(outer, inner, generator=generator, dtype=torch.float64).to(dtype)
        for inner, outer in pairwise(dims)
    ]


def weighted_observations(seed: int, dtype: torch.dtype = torch.float64) -> Observations:
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (torch.rand(SHAPE, generator=generator) < 0.4).nonzero(as_tuple=True)
    values, weights = torch.rand(2, len(rows), generator=generator, dtype=torch.float64).to(dtype)
    return Observations(rows, columns, values, SHAPE, weights=weights)


def dense(factors: list[Tensor]) -> np.ndarray:
    return reduce(lambda product, factor: factor @ product, [factor.double().numpy() for factor in factors])


def rmse(product: np.ndarray, observations: Observations) -> float:
    predictions = product[observations.rows.numpy(), observations.columns.numpy()]
    squares = (predictions - observations.values.double().numpy()) ** 2
    return math.sqrt(np.average(squares, weights=observations.weights.double().numpy()))


EVERYTHING = Recording(singular_values=None, spectrum=True, balancedness=True)


@pytest.mark.parametrize("dims", [(7, 5, 6, 9), (7, 2, 9), (7, 9)])
@pytest.mark.parametrize("with_truth", [True, False])
def test_a_row_is_what_numpy_measures(dims: tuple[int, ...], with_truth: bool) -> None:
    factors, depth = make_factors(dims), len(dims) - 1
    validation, test = weighted_observations(1), weighted_observations(2)
    truth = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    measures = FactorMeasures(validation, test, truth if with_truth else None, EVERYTHING)
    row = measures.row(factors, 12, 0.25, 1.5, 0.75)

    product = dense(factors)
    values = np.linalg.svd(product, compute_uv=False)
    present = values[: min(dims)]  # the others are zero, up to NumPy's rounding
    shares = present / present.sum()
    arrays = [factor.numpy() for factor in factors]
    gaps = [np.linalg.norm(outer.T @ outer - inner @ inner.T) for inner, outer in pairwise(arrays)]
    expected = {
        "step": 12,
        "seconds": 0.25,
        "train_loss": 1.5,
        "validation_rmse": rmse(product, validation),
        "test_rmse": rmse(product, test),
        "reconstruction_mse": float(((product - truth.numpy()) ** 2).mean()) if with_truth else None,
        "gradient_norm": 0.75,
        "parameter_norm": math.sqrt(sum((array**2).sum() for array in arrays)),
        "effective_rank": math.exp(-(shares * np.log(shares)).sum()),
        "nuclear_norm": present.sum(),
        "schatten_norm": (present ** (2 / depth)).sum() ** (depth / 2),
        "balancedness": max(gaps, default=0.0),
    } | {f"singular_value_{place}": value for place, value in enumerate(values, start=1)}
    assert list(row) == list(expected)
    for name, value in expected.items():
        wanted = None if value is None else pytest.approx(value, rel=1e-12, abs=1e-12)
        assert row[name] == wanted, name


@pytest.mark.parametrize(
    ("recording", "names"),
    [
        (Recording(norms=False), []),
        (Recording(), ["gradient_norm", "parameter_norm"]),
        (Recording(norms=False, spectrum=True), ["effective_rank", "nuclear_norm", "schatten_norm"]),
        (Recording(norms=False, balancedness=True), ["balancedness"]),
        (Recording(norms=False, singular_values=2), ["singular_value_1", "singular_value_2"]),
        (Recording(norms=False, singular_values=50), [f"singular_value_{place}" for place in range(1, 8)]),
    ],
)
def test_a_row_holds_what_was_asked_for_in_a_fixed_order(recording: Recording, names: list[str]) -> None:
    always = ["step", "seconds", "train_loss", "validation_rmse", "test_rmse", "reconstruction_mse"]
    measures = FactorMeasures(recording=recording)
    for train_loss in (1.0, math.nan):
        assert list(measures.row(make_factors(), 0, 0.0, train_loss, None)) == always + names


@pytest.mark.parametrize("train_loss", [math.inf, math.nan])
def test_nothing_else_is_measured_where_the_train_loss_is_not_finite(train_loss: float) -> None:
    measures = FactorMeasures(weighted_observations(1), None, torch.ones(SHAPE), EVERYTHING)
    broken = [torch.full_like(factor, math.nan) for factor in make_factors()]
    row = measures.row(broken, 3, 0.5, train_loss, 1.0)
    assert (row.pop("step"), row.pop("seconds")) == (3, 0.5)
    assert not math.isfinite(row.pop("train_loss"))
    assert set(row.values()) == {None}


def test_factors_that_overflow_where_nothing_is_observed_have_no_spectrum_and_the_rest() -> None:
    factors = make_factors((7, 9))
    factors[0][8] = math.inf
    only_first_row = Observations([0], [0], [1.0], SHAPE, dtype=torch.float64)
    row = FactorMeasures(only_first_row, recording=EVERYTHING).row(factors, 0, 0.0, 1.0, 1.0)
    assert row["validation_rmse"] == pytest.approx(abs(float(factors[0][0, 0]) - 1))
    assert row["singular_value_1"] is None
    assert row["nuclear_norm"] is None


def test_the_singular_values_are_computed_once_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []
    svdvals = torch.linalg.svdvals
    monkeypatch.setattr(torch.linalg, "svdvals", lambda matrix: computed.append(1) or svdvals(matrix))
    FactorMeasures(recording=EVERYTHING).row(make_factors(), 0, 0.0, 1.0, 1.0)
    FactorMeasures(recording=Recording()).row(make_factors(), 0, 0.0, 1.0, 1.0)
    assert len(computed) == 1


def test_float32_factors_are_measured_in_float64() -> None:
    factors = [factor.requires_grad_() for factor in make_factors(dtype=torch.float32)]
    test = weighted_observations(2)
    row = FactorMeasures(None, test, None, EVERYTHING).row(factors, 0, 0.0, 1.0, 1.0)
    product = dense([factor.detach() for factor in factors])
    assert row["test_rmse"] == pytest.approx(rmse(product, test), rel=1e-13)
    assert row["nuclear_norm"] == pytest.approx(np.linalg.norm(product, "nuc"), rel=1e-13)
    narrow = FactorMeasures(None, test.to(dtype=torch.float32)).row(factors, 0, 0.0, 1.0, 1.0)
    assert narrow["test_rmse"] == pytest.approx(row["test_rmse"], rel=1e-5)


def test_observations_without_weight_are_not_measured() -> None:
    empty = Observations([], [], [], SHAPE, dtype=torch.float64)
    weightless = Observations([0], [0], [1.0], SHAPE, weights=[0.0], dtype=torch.float64)
    row = FactorMeasures(empty, weightless).row(make_factors(), 0, 0.0, 1.0, 1.0)
    assert row["validation_rmse"] is row["test_rmse"] is None


def test_what_has_another_shape_than_the_product_is_named() -> None:
    other = weighted_observations(1).transpose()
    for name in ("validation", "test"):
        with pytest.raises(ValueError, match=rf"{name} has shape \(7, 9\), but .* shape \(9, 7\)"):
            FactorMeasures(**{name: other}).check_shapes(SHAPE)
    with pytest.raises(ValueError, match="truth has shape"):
        FactorMeasures(truth=torch.ones(7, 9)).check_shapes(SHAPE)
    FactorMeasures(weighted_observations(1), truth=torch.ones(SHAPE)).check_shapes(SHAPE)


def test_rows_make_a_table_with_nulls_where_nothing_was_measured() -> None:
    measures = FactorMeasures(recording=Recording(singular_values=1))
    rows = [measures.row(make_factors(), step, 0.0, loss, 2.0) for step, loss in enumerate([1.0, math.inf])]
    table = history_table(rows)
    assert table["step"].to_pylist() == [0, 1]
    assert table["gradient_norm"].to_pylist() == [2.0, None]
    assert [str(kind) for kind in table.schema.types] == ["int64"] + ["double"] * (len(table.schema) - 1)
