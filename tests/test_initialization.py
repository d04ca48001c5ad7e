"""Starting values: their size, their structure and their seeds."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from dmf_fast import reference
from dmf_fast.initialization import INITIALIZATIONS, initialize

# (columns, hidden widths …, rows): square, wide, high, with a bottleneck, wider inside, depth 1.
CHAINS = [(6, 6, 6), (9, 5, 5, 5), (4, 7, 8), (8, 2, 5, 7), (5, 11, 6), (5, 4), (1, 3, 1), (4, 1, 4)]


def draw(name: str, dims: tuple[int, ...], init_scale: float = 0.1, seed: int | None = 0) -> list[Tensor]:
    return initialize(name, dims, init_scale, seed=seed, dtype=torch.float64)


@pytest.mark.parametrize("name", INITIALIZATIONS)
@pytest.mark.parametrize("dims", CHAINS)
def test_factors_have_the_shapes_of_the_chain(name: str, dims: tuple[int, ...]) -> None:
    factors = draw(name, dims)
    assert [tuple(factor.shape) for factor in factors] == [(outer, inner) for inner, outer in pairwise(dims)]
    assert all(factor.isfinite().all() and factor.is_contiguous() for factor in factors)


@pytest.mark.parametrize("name", ["gaussian", "uniform"])
@pytest.mark.parametrize("dims", [(6, 6, 6), (9, 5, 5, 5), (4, 7, 8), (8, 3, 5, 7), (5, 4)])
def test_the_mean_squared_norm_of_the_product_is_the_squared_scale_times_the_smaller_side(
    name: str, dims: tuple[int, ...]
) -> None:
    squares = torch.stack(
        [reference.chain_product(draw(name, dims, 0.3, seed)).square().sum() for seed in range(2000)]
    )
    expected = 0.3**2 * min(dims[0], dims[-1])
    assert abs(squares.mean() - expected) < 5 * squares.std() / len(squares) ** 0.5


def test_gaussian_factors_of_a_square_chain_have_the_deviation_of_the_paper() -> None:
    factors = draw("gaussian", (400, 400, 400, 400), 1e-3)
    for factor in factors:
        assert factor.std() == pytest.approx(1e-3 ** (1 / 3) * 400**-0.5, rel=0.02)


@pytest.mark.parametrize("dims", CHAINS)
def test_balanced_factors_are_balanced(dims: tuple[int, ...]) -> None:
    factors = draw("balanced", dims)
    for inner, outer in pairwise(factors):
        torch.testing.assert_close(outer.T @ outer, inner @ inner.T, rtol=0, atol=1e-15)


@pytest.mark.parametrize("dims", CHAINS)
def test_balanced_factors_multiply_to_a_gaussian_matrix_truncated_to_the_narrowest_width(
    dims: tuple[int, ...],
) -> None:
    product = reference.chain_product(draw("balanced", dims, 0.1, seed=3))
    generator = torch.Generator().manual_seed(3)
    target = torch.randn(dims[-1], dims[0], generator=generator, dtype=torch.float64)
    left, values, right = torch.linalg.svd(target * 0.1 / max(dims[0], dims[-1]) ** 0.5)
    rank = min(dims)
    expected = left[:, :rank] @ values[:rank].diag() @ right[:rank]
    torch.testing.assert_close(product, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dims", [(6, 6, 6), (9, 5, 5, 5), (4, 4, 8), (8, 2, 5, 7), (5, 4)])
def test_orthogonal_factors_multiply_to_singular_values_equal_to_the_scale(dims: tuple[int, ...]) -> None:
    values = torch.linalg.svdvals(reference.chain_product(draw("orthogonal", dims, 0.2)))
    expected = torch.zeros(min(dims[0], dims[-1]), dtype=torch.float64)
    expected[: min(dims)] = 0.2
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dims", CHAINS)
def test_identity_factors_multiply_to_the_scale_on_the_diagonal(dims: tuple[int, ...]) -> None:
    product = reference.chain_product(draw("identity", dims, 0.2))
    expected = torch.zeros(dims[-1], dims[0], dtype=torch.float64)
    for place in range(min(dims)):
        expected[place, place] = 0.2
    torch.testing.assert_close(product, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", INITIALIZATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_seed_means_the_same_factors_in_every_dtype(name: str, dtype: torch.dtype) -> None:
    exact = draw(name, (5, 4, 6), seed=7)
    for factor, wide in zip(initialize(name, (5, 4, 6), 0.1, seed=7, dtype=dtype), exact, strict=True):
        assert factor.dtype == dtype
        assert torch.equal(factor, wide.to(dtype))


@pytest.mark.parametrize("name", ["gaussian", "uniform", "balanced", "orthogonal"])
def test_seeds_differ_and_none_follows_the_generator_of_torch(name: str) -> None:
    assert not torch.equal(draw(name, (5, 4, 6), seed=1)[0], draw(name, (5, 4, 6), seed=2)[0])
    with torch.random.fork_rng():
        torch.manual_seed(5)
        first, second = draw(name, (5, 4, 6), seed=None), draw(name, (5, 4, 6), seed=None)
        torch.manual_seed(5)
        again = draw(name, (5, 4, 6), seed=None)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], second[0])


def test_a_deep_chain_of_small_scale_neither_under_nor_overflows() -> None:
    values = torch.linalg.svdvals(reference.chain_product(draw("orthogonal", (3,) * 101, 1e-6)))
    torch.testing.assert_close(values, torch.full((3,), 1e-6, dtype=torch.float64))
    assert all(factor.abs().max() > 0 for factor in draw("gaussian", (3,) * 1001, 1e-6))


@pytest.mark.parametrize(
    ("name", "dims", "init_scale", "words"),
    [
        ("xavier", (3, 3), 0.1, "gaussian, balanced"),
        ("gaussian", (3,), 0.1, "dims"),
        ("gaussian", (3, 0, 3), 0.1, "dims"),
        ("gaussian", (3, 3), 0.0, "init_scale"),
        ("gaussian", (3, 3), -1.0, "init_scale"),
        ("gaussian", (3, 3), float("nan"), "init_scale"),
        ("gaussian", (3, 3), float("inf"), "init_scale"),
    ],
)
def test_a_bad_argument_is_named(name: str, dims: tuple[int, ...], init_scale: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        initialize(name, dims, init_scale)
