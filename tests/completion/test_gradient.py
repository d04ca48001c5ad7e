"""Leading directions are the singular vectors of the loss's gradient with respect to the product."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dmf_fast import DeepMatrixFactorization, Observations
from dmf_fast.completion import ScaledFactorization
from dmf_fast.completion.gradient import leading_directions


def by_autograd(model: DeepMatrixFactorization, train: Observations) -> Tensor:
    """Return the negative gradient of the mean loss with respect to the product of the parameters."""
    rows, columns = train.coordinates()
    product = model.factors[0].detach()
    for factor in list(model.factors)[1:]:
        product = factor.detach() @ product
    product = product.clone().requires_grad_()
    scales = model.parameter_scales()
    dense = product if scales is None else scales.rows[:, None] * product * scales.columns
    _, row_bias, column_bias = model.chain_and_biases()
    if row_bias is not None and column_bias is not None:
        dense = dense + row_bias.detach()[:, None] + column_bias.detach()
    weights = torch.ones_like(train.values) if train.weights is None else train.weights
    residuals = dense[rows, columns] + model.mean - train.values
    loss = (weights * residuals.square()).sum() / weights.sum()
    return -torch.autograd.grad(loss, product)[0]


@given(st.integers(0, 2**20), st.integers(1, 3), st.booleans(), st.booleans())
def test_they_are_those_of_autograd(seed: int, depth: int, weighted: bool, scaled: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows, columns = 12, 9
    mask = torch.rand(rows, columns, generator=generator) < torch.rand(rows, 1, generator=generator)
    mask[0, 0] = True
    places = mask.nonzero(as_tuple=True)
    draw = lambda *size: torch.randn(*size, generator=generator, dtype=torch.float64)  # noqa: E731
    weights = draw(len(places[0])).square() + 0.1 if weighted else None
    train = Observations(*places, draw(len(places[0])), (rows, columns), weights=weights)
    dims = (columns, *[4] * (depth - 1), rows)
    factors = [draw(out, into) for into, out in pairwise(dims)]
    if scaled:
        scales = draw(rows).exp(), draw(columns).exp()
        model: DeepMatrixFactorization = ScaledFactorization(factors, *scales, 1.5, (0.5, 0.3))
        with torch.no_grad():
            for bias in model.biases:
                bias.copy_(draw(len(bias)))
    else:
        model = DeepMatrixFactorization.of_factors(factors)
    expected = by_autograd(model, train)

    found = leading_directions(model, train, 9, passes=3)

    torch.testing.assert_close(found.left @ found.values.diag() @ found.right.T, expected)
    torch.testing.assert_close(found.values, torch.linalg.svdvals(expected))
    for side in (found.left, found.right):
        torch.testing.assert_close(side.T @ side, torch.eye(9, dtype=torch.float64))


def test_leading_ones_of_many_settle_with_the_passes() -> None:
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(200, 150, generator=generator) + 3 * torch.outer(
        torch.randn(200, generator=generator), torch.randn(150, generator=generator)
    )
    places = (torch.rand(dense.shape, generator=generator) < 0.3).nonzero(as_tuple=True)
    train = Observations(*places, dense[places], dense.shape)
    model = DeepMatrixFactorization.of_factors([torch.zeros(1, 150), torch.zeros(200, 1)])
    exact = torch.linalg.svdvals(by_autograd(model, train))[:10]
    errors = [
        ((leading_directions(model, train, 10, passes=passes).values - exact).abs() / exact).max().item()
        for passes in (1, 3, 8)
    ]
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 0.02


def test_they_are_bit_identical_for_any_number_of_threads() -> None:
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(300, 200, generator=generator)
    places = (torch.rand(dense.shape, generator=generator) < 0.3).nonzero(as_tuple=True)
    train = Observations(*places, dense[places], dense.shape)
    model = DeepMatrixFactorization(train.shape, 2, 8, 0.1, seed=0)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(leading_directions(model, train, 40, passes=4))
    assert torch.equal(found[0].left, found[1].left)
    assert torch.equal(found[0].values, found[1].values)
    assert torch.equal(found[0].right, found[1].right)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1)])
def test_one_row_or_one_column_has_one_direction(shape: tuple[int, int]) -> None:
    train = Observations([0], [0], [2.0], shape)
    model = DeepMatrixFactorization.of_factors([torch.zeros(1, shape[1]), torch.zeros(shape[0], 1)])
    found = leading_directions(model, train, 64, passes=2)
    assert found.values.tolist() == [4.0]
