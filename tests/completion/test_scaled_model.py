"""The scaled model is the plain one in other coordinates; its scales are what their formulas say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dmf_fast import Observations
from dmf_fast.completion import ScaledFactorization, degree_scales
from dmf_fast.initialization import initialize
from dmf_fast.ops.statistics import spread

ROWS, COLUMNS = torch.tensor([2.0, 0.5, 1.0, 3.0]), torch.tensor([1.0, 0.25, 4.0])


def scaled(depth: int, bias: bool) -> ScaledFactorization:
    dims = (3, *[5] * (depth - 1), 4)
    factors = initialize("gaussian", dims, 1.0, seed=0, dtype=torch.float64)
    model = ScaledFactorization(factors, ROWS, COLUMNS, 1.5, (0.5, 0.5) if bias else None)
    model.mean.fill_(3.5)
    if model.row_bias is not None and model.column_bias is not None:
        with torch.no_grad():
            model.row_bias.copy_(2 * torch.arange(4))  # biases are halved
            model.column_bias.copy_(2 * torch.arange(3))
    return model


def dense_by_hand(model: ScaledFactorization) -> Tensor:
    product = torch.eye(3, dtype=torch.float64)
    for factor in model.factors:
        product = factor.detach() @ product
    dense = 1.5 * ROWS[:, None] * product * COLUMNS + 3.5
    if model.row_bias is not None:
        dense += 1.5 * (ROWS * torch.arange(4))[:, None] + 1.5 * COLUMNS * torch.arange(3)
    return dense


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_predictions_loss_and_plain_copy_agree_with_the_formula(depth: int, bias: bool) -> None:
    model = scaled(depth, bias)
    dense = dense_by_hand(model)
    rows, columns = torch.tensor([0, 3, 2]), torch.tensor([2, 0, 1])
    observations = Observations(rows, columns, torch.zeros(3, dtype=torch.float64), (4, 3))
    expected = dense[rows, columns]
    for own in (model, model.plain()):
        torch.testing.assert_close(own(observations).detach(), expected)
        torch.testing.assert_close(own.predict(rows, columns), expected)
        torch.testing.assert_close(own.loss(observations).detach(), expected.square().mean())
        singular_values = torch.linalg.svdvals(own.product().detach())
        torch.testing.assert_close(own.singular_values(), singular_values)


def test_gradients_are_those_of_the_parameters_and_scales_stay() -> None:
    model = scaled(2, bias=True)
    observations = Observations([0, 3, 2], [2, 0, 1], torch.tensor([1.0, 2.0, 3.0]).double(), (4, 3))
    model.loss(observations).backward()
    assert {name for name, _ in model.named_parameters()} == {
        "factors.0",
        "factors.1",
        "row_bias",
        "column_bias",
    }
    residuals = dense_by_hand(model)[[0, 3, 2], [2, 0, 1]] - torch.tensor([1.0, 2.0, 3.0])
    expected = torch.zeros(4, dtype=torch.float64)
    expected[[0, 3, 2]] = 2 / 3 * residuals * 1.5 * ROWS[[0, 3, 2]] / 2
    torch.testing.assert_close(model.row_bias.grad, expected)


def test_the_plain_copy_shares_no_memory_with_the_model() -> None:
    model = scaled(2, bias=True)
    before = dense_by_hand(model)
    plain = model.plain()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    torch.testing.assert_close(plain.predict([1], [1]), before[1:2, 1])


@pytest.mark.parametrize("wrong", [0.0, -1.0])
def test_a_scale_that_is_not_above_zero_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match=f"`column_scale` must be above 0, got {wrong}"):
        ScaledFactorization([torch.eye(4, 2)], ROWS, torch.tensor([1.0, wrong]), 1.0)


@st.composite
def patterns(draw: st.DrawFn) -> Observations:
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    cells = st.integers(0, shape[0] * shape[1] - 1)
    places = torch.tensor(draw(st.lists(cells, min_size=1, unique=True)))
    values = torch.tensor(draw(st.lists(st.floats(-9, 9), min_size=len(places), max_size=len(places))))
    weights = None
    if draw(st.booleans()):
        weights = torch.rand(len(places), generator=torch.Generator().manual_seed(len(places))) + 0.1
    return Observations(places // shape[1], places % shape[1], values.double(), shape, weights=weights)


@given(patterns(), st.sampled_from([0.0, 0.4, 1.0]))
def test_scales_fall_with_the_degrees_and_have_a_mean_square_of_one_over_the_entries(
    observations: Observations, exponent: float
) -> None:
    weights = torch.ones(len(observations)).double() if observations.weights is None else observations.weights
    dense = torch.zeros(observations.shape, dtype=torch.float64)
    dense[observations.rows, observations.columns] = weights
    for scale, degrees in zip(
        degree_scales(observations, exponent), (dense.sum(1), dense.sum(0)), strict=True
    ):
        torch.testing.assert_close((scale.square() * degrees).sum(), degrees.sum(), rtol=1e-10, atol=0)
        known = degrees > 0
        ratio = scale[known] * degrees[known] ** (exponent / 2)
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-10, atol=0)
        assert bool((scale[~known] == scale[known].max()).all()) or exponent == 0


@given(patterns(), st.floats(-3, 3))
def test_the_spread_is_the_weighted_root_mean_square(observations: Observations, centre: float) -> None:
    weights = None if observations.weights is None else observations.weights.numpy()
    root = math.sqrt(np.average((observations.values.numpy() - centre) ** 2, weights=weights))
    expected = root if root > 1e-14 * abs(centre) else 1.0  # rounding is no spread
    assert spread(observations, centre) == pytest.approx(expected, rel=1e-9)
