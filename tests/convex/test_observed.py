"""Sparse matrices on a pattern: products and norms are those of the dense matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dmf_fast.convex.observed import ObservedEntries
from tests.convex import oracle
from tests.problems import make_problem

SHAPES = [(9, 14), (14, 9), (1, 6), (6, 1)]


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pattern", ["uniform", "skewed", "one row", "diagonal", "full"])
def test_products_and_entries_are_those_of_the_dense_matrix(shape: tuple[int, int], pattern: str) -> None:
    rows, columns = shape
    observations = make_problem((columns, rows), pattern=pattern, density=0.6).observations()
    observed = ObservedEntries(observations)
    sparse = draw(observed.nnz)
    dense = oracle.on_pattern(observations, sparse)

    np.testing.assert_array_equal(observed.dense(sparse).numpy(), dense)
    right, left = draw(columns, 3), draw(rows, 3)
    np.testing.assert_allclose(observed.times(sparse, right).numpy(), dense @ right.numpy(), atol=1e-12)
    np.testing.assert_allclose(
        observed.transposed_times(sparse, left).numpy(), dense.T @ left.numpy(), atol=1e-12
    )
    product = (left @ right.T)[observations.rows, observations.columns]
    torch.testing.assert_close(observed.entries_of(left, right), product)
    torch.testing.assert_close(observed.entries_of_dense(left @ right.T), product)


def test_entries_of_rank_zero_are_zero() -> None:
    observed = ObservedEntries(make_problem((5, 4)).observations())
    entries = observed.entries_of(draw(4, 0), draw(5, 0))
    assert torch.equal(entries, torch.zeros(observed.nnz, dtype=torch.float64))


@pytest.mark.parametrize("shape", [*SHAPES, (60, 90), (1, 1)])
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_the_operator_norm_is_the_largest_singular_value(shape: tuple[int, int], scale: float) -> None:
    rows, columns = shape
    observations = make_problem((columns, rows), pattern="uniform", density=0.5, seed=3).observations()
    observed = ObservedEntries(observations)
    sparse = draw(observed.nnz)
    expected = oracle.operator_norm(oracle.on_pattern(observations, sparse))

    found = observed.operator_norm(scale * sparse, 1e-6) / scale
    assert expected * (1 - 1e-12) <= found <= expected * (1 + 1.1e-6)


def test_the_operator_norm_of_zero_is_zero() -> None:
    observed = ObservedEntries(make_problem((5, 4)).observations())
    assert observed.operator_norm(torch.zeros(observed.nnz, dtype=torch.float64), 1e-6) == 0


def test_entries_without_weights_weigh_one_each() -> None:
    observations = make_problem((5, 4), dtype=torch.float32).observations()
    assert torch.equal(
        ObservedEntries(observations).weights, torch.ones(observations.nnz, dtype=torch.float64)
    )
