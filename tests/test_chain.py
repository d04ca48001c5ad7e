"""Functions of a chain of factors against NumPy."""

from __future__ import annotations

import math
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dmf_fast.chain import (
    balancedness,
    chain_product,
    dims_of,
    narrowest_split,
    relative_distance,
    shape_of,
    singular_values,
)

DIMS = [(5, 7), (5, 4, 7), (7, 2, 2, 5), (6, 9, 3, 5, 6), (4, 11, 6), (4, 1, 1), (1, 3, 1)]


def make_factors(dims: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(outer, inner, generator=generator, dtype=torch.float64).to(dtype)
        for inner, outer in pairwise(dims)
    ]


def arrays(factors: list[Tensor]) -> list[np.ndarray]:
    return [factor.detach().double().numpy() for factor in factors]


def dense(factors: list[Tensor]) -> np.ndarray:
    return reduce(lambda product, factor: factor @ product, arrays(factors))


@pytest.mark.parametrize("dims", DIMS)
def test_the_product_is_that_of_all_factors_from_the_last_to_the_first(dims: tuple[int, ...]) -> None:
    factors = make_factors(dims)
    np.testing.assert_allclose(chain_product(factors).numpy(), dense(factors), rtol=1e-12, atol=1e-12)
    assert dims_of(factors) == dims
    assert shape_of(factors) == dense(factors).shape


def test_the_product_is_differentiable_and_never_the_memory_of_a_factor() -> None:
    factors = [factor.requires_grad_() for factor in make_factors((4, 3, 5))]
    chain_product(factors).sum().backward()
    np.testing.assert_allclose(factors[1].grad.numpy()[0], factors[0].detach().numpy().sum(1))
    assert chain_product(factors[:1]).data_ptr() != factors[0].data_ptr()


@pytest.mark.parametrize("dims", DIMS)
def test_singular_values_are_those_of_the_dense_product(dims: tuple[int, ...]) -> None:
    factors = make_factors(dims)
    expected = np.linalg.svd(dense(factors), compute_uv=False)
    np.testing.assert_allclose(singular_values(factors).numpy(), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(singular_values(factors, 1), singular_values(factors)[:1])


def test_singular_values_beyond_the_narrowest_width_are_exactly_zero() -> None:
    assert singular_values(make_factors((6, 5, 2, 7)))[2:].tolist() == [0.0] * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_dtypes_are_measured_in_float64_and_without_gradients(dtype: torch.dtype) -> None:
    factors = [factor.requires_grad_() for factor in make_factors((5, 4, 7), dtype)]
    values, gap = singular_values(factors), balancedness(factors)
    assert values.dtype == gap.dtype == torch.float64
    assert not values.requires_grad
    assert not gap.requires_grad
    expected = np.linalg.svd(dense(factors), compute_uv=False)
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-12, atol=1e-12)
    inner, outer = arrays(factors)
    assert float(gap) == pytest.approx(np.linalg.norm(outer.T @ outer - inner @ inner.T), rel=1e-13)


def test_the_spectrum_of_a_matrix_too_large_to_be_formed() -> None:
    factors = [torch.eye(3, 200_000), 2 * torch.eye(300_000, 3)]
    assert singular_values(factors, 4).tolist() == pytest.approx([2.0, 2.0, 2.0, 0.0])


@pytest.mark.parametrize("dims", DIMS)
def test_balancedness_is_the_largest_gap_between_neighbors(dims: tuple[int, ...]) -> None:
    factors = make_factors(dims)
    gaps = [np.linalg.norm(outer.T @ outer - inner @ inner.T) for inner, outer in pairwise(arrays(factors))]
    assert float(balancedness(factors)) == pytest.approx(max(gaps, default=0.0))


def test_factors_that_share_a_singular_value_decomposition_evenly_are_balanced() -> None:
    left, values, right = np.linalg.svd(dense(make_factors((5, 7))), full_matrices=False)
    share = np.diag(np.cbrt(values))
    factors = [torch.from_numpy(factor.copy()) for factor in (share @ right, share, left @ share)]
    assert float(balancedness(factors)) < 1e-13


def test_the_narrowest_split_is_the_first_of_the_smallest_hidden_widths() -> None:
    assert narrowest_split((1, 5, 3, 3, 1)) == 2
    assert narrowest_split((1, 1)) is None


@pytest.mark.parametrize("dims", [(5, 4), (5, 4, 6), (5, 2, 6)])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_product_that_is_not_finite_has_no_singular_values(
    dims: tuple[int, ...], number: float, capfd: pytest.CaptureFixture[str]
) -> None:
    factors = make_factors(dims)
    factors[-1][1, 1] = number
    with pytest.raises(torch.linalg.LinAlgError, match="the product of `factors` must be finite"):
        singular_values(factors)
    assert capfd.readouterr().out == ""


def test_factors_that_overflow_only_in_their_product_have_no_singular_values() -> None:
    with pytest.raises(torch.linalg.LinAlgError, match="the product of `factors` must be finite"):
        singular_values([1e200 * factor for factor in make_factors((5, 2, 6))])


@pytest.mark.parametrize("function", [chain_product, singular_values, balancedness, shape_of])
@pytest.mark.parametrize(
    ("factors", "error", "words"),
    [
        (torch.ones(2, 3), TypeError, "must be a sequence .* wrap it in a list"),
        ([], ValueError, "at least one matrix"),
        ([torch.ones(2, 2), [[1.0, 2.0]]], TypeError, r"`factors\[1\]` must be a torch.Tensor, got list"),
        ([torch.ones(3)], ValueError, r"`factors\[0\]` must be a matrix, got shape \(3,\)"),
        (
            [torch.ones(4, 3), torch.ones(2, 5)],
            ValueError,
            r"`factors\[1\]` must have as many columns as `factors\[0\]` has rows",
        ),
        ([torch.ones(0, 3), torch.ones(2, 0)], ValueError, r"`factors\[0\]` must have at least one row"),
    ],
)
def test_what_is_no_chain_is_named(function: Any, factors: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        function(factors)


@pytest.mark.parametrize("k", [0, -1, 4])
def test_a_bad_number_of_singular_values_is_named(k: int) -> None:
    with pytest.raises(ValueError, match=r"`k` must be from 1 to min\(m, n\) = 3, got"):
        singular_values(make_factors((3, 5, 4)), k)


@pytest.mark.parametrize(
    "shapes", [(((3, 6), (3, 3), (5, 3)), ((2, 6), (5, 2))), (((5, 6),), ((4, 6), (5, 4)))]
)
def test_the_distance_of_chains_is_that_of_their_products(shapes: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    chains = [[torch.randn(shape, generator=generator) for shape in chain] for chain in shapes]
    one, other = (chain_product([factor.double() for factor in chain]) for chain in chains)
    expected = float((one - other).norm() / other.norm())
    assert relative_distance(*chains) == pytest.approx(expected, rel=1e-12)


def test_the_distance_is_of_products_of_one_shape() -> None:
    with pytest.raises(
        ValueError, match="product of `others` must have the shape of the product of `factors`"
    ):
        relative_distance([torch.eye(2)], [torch.eye(3)])
