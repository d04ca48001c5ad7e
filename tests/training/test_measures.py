"""What a row measures, against NumPy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from dmf_fast import Observations
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.training.errors import mean_squared_error
from dmf_fast.training.history import History, Row
from dmf_fast.training.measures import Measures
from dmf_fast.training.recording import Recording

SHAPE = (9, 7)


@dataclass
class State:
    """Factors, as an engine offers them."""

    factors: list[Tensor]
    loss: float
    gradient_norm: float

    def model(self) -> DeepMatrixFactorization:
        return DeepMatrixFactorization.of_factors(self.factors)

    def mean_squared_error(self, observations: Observations) -> float:
        return mean_squared_error(self.model(), observations)


def row_of(
    measures: Measures, factors: list[Tensor], loss: float = 1.0, norm: float = 1.0, step: int = 0
) -> Row:
    return measures.row(State(factors, loss, norm), step, 0.25)


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
    predictions = product[tuple(side.numpy() for side in observations.coordinates())]
    squares = (predictions - observations.values.double().numpy()) ** 2
    return math.sqrt(np.average(squares, weights=observations.weights.double().numpy()))


EVERYTHING = Recording(singular_values=None, spectrum=True, balancedness=True)


@pytest.mark.parametrize("dims", [(7, 5, 6, 9), (7, 2, 9), (7, 9)])
@pytest.mark.parametrize("with_truth", [True, False])
def test_a_row_is_what_numpy_measures(dims: tuple[int, ...], with_truth: bool) -> None:
    factors, depth = make_factors(dims), len(dims) - 1
    validation, test = weighted_observations(1), weighted_observations(2)
    truth = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    measures = Measures(validation, test, truth if with_truth else None, EVERYTHING)
    row = row_of(measures, factors, 1.5, 0.75, step=12)

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
    measures = Measures(recording=recording)
    for train_loss in (1.0, math.nan):
        assert list(row_of(measures, make_factors(), train_loss)) == always + names


@pytest.mark.parametrize("train_loss", [math.inf, math.nan])
def test_nothing_else_is_measured_where_the_train_loss_is_not_finite(train_loss: float) -> None:
    measures = Measures(weighted_observations(1), None, torch.ones(SHAPE), EVERYTHING)
    broken = [torch.full_like(factor, math.nan) for factor in make_factors()]
    row = row_of(measures, broken, train_loss, step=3)
    assert (row.pop("step"), row.pop("seconds")) == (3, 0.25)
    assert not math.isfinite(row.pop("train_loss"))
    assert set(row.values()) == {None}


def test_factors_that_overflow_where_nothing_is_observed_have_no_spectrum_and_the_rest() -> None:
    factors = make_factors((7, 9))
    factors[0][8] = math.inf
    only_first_row = Observations([0], [0], [1.0], SHAPE, dtype=torch.float64)
    row = row_of(Measures(only_first_row, recording=EVERYTHING), factors)
    assert row["validation_rmse"] == pytest.approx(abs(float(factors[0][0, 0]) - 1))
    assert row["singular_value_1"] is None
    assert row["nuclear_norm"] is None


def test_the_singular_values_are_computed_once_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []
    svdvals = torch.linalg.svdvals
    monkeypatch.setattr(torch.linalg, "svdvals", lambda matrix: computed.append(1) or svdvals(matrix))
    row_of(Measures(recording=EVERYTHING), make_factors())
    row_of(Measures(recording=Recording()), make_factors())
    assert len(computed) == 1


def test_float32_factors_are_measured_in_float64() -> None:
    factors = [factor.requires_grad_() for factor in make_factors(dtype=torch.float32)]
    test = weighted_observations(2)
    row = row_of(Measures(None, test, None, EVERYTHING), factors)
    product = dense([factor.detach() for factor in factors])
    assert row["test_rmse"] == pytest.approx(rmse(product, test), rel=1e-13)
    assert row["nuclear_norm"] == pytest.approx(np.linalg.norm(product, "nuc"), rel=1e-13)
    narrow = row_of(Measures(None, test.to(dtype=torch.float32)), factors)
    assert narrow["test_rmse"] == pytest.approx(row["test_rmse"], rel=1e-5)


def test_observations_without_weight_are_not_measured() -> None:
    empty = Observations([], [], [], SHAPE, dtype=torch.float64)
    weightless = Observations([0], [0], [1.0], SHAPE, weights=[0.0], dtype=torch.float64)
    row = row_of(Measures(empty, weightless), make_factors())
    assert row["validation_rmse"] is row["test_rmse"] is None


def test_what_has_another_shape_than_the_product_is_named() -> None:
    other = weighted_observations(1).transpose()
    for name in ("validation", "test"):
        with pytest.raises(ValueError, match=rf"`{name}` must have the shape of .*, \(9, 7\), got \(7, 9\)"):
            Measures(**{name: other}).check_shapes(SHAPE)
    with pytest.raises(ValueError, match="`truth` must have the shape"):
        Measures(truth=torch.ones(7, 9)).check_shapes(SHAPE)
    Measures(weighted_observations(1), truth=torch.ones(SHAPE)).check_shapes(SHAPE)


def test_rows_make_a_history_with_nan_and_null_where_nothing_was_measured() -> None:
    measures = Measures(recording=Recording(singular_values=1))
    rows = [row_of(measures, make_factors(), loss, 2.0, step) for step, loss in enumerate([1.0, math.inf])]
    history = History.of_rows(rows)
    table = history.table
    assert history["step"] == table["step"].to_pylist() == [0, 1]
    assert history["gradient_norm"] == pytest.approx([2.0, math.nan], nan_ok=True)
    assert table["gradient_norm"].to_pylist() == [2.0, None]
    assert [str(kind) for kind in table.schema.types] == ["int64"] + ["double"] * (len(table.schema) - 1)
