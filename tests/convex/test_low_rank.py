"""A matrix by its singular triples: what NumPy says of the matrix itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dmf_fast.convex import LowRank


@pytest.fixture
def matrix() -> LowRank:
    """A matrix of shape (7, 5) and rank 3."""
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.linalg.qr(torch.randn(size, 3, generator=generator, dtype=torch.float64)).Q for size in (7, 5)
    )
    return LowRank(left, torch.tensor([4.0, 2.0, 0.5], dtype=torch.float64), right)


def test_singular_values_rank_and_norm_are_those_of_the_dense_matrix(matrix: LowRank) -> None:
    values = np.linalg.svd(matrix.dense().numpy(), compute_uv=False)
    np.testing.assert_allclose(values, [4.0, 2.0, 0.5, 0, 0], atol=1e-12)
    assert matrix.rank == 3
    assert matrix.nuclear_norm == 6.5


def test_the_factors_multiply_to_the_matrix_and_are_balanced(matrix: LowRank) -> None:
    first, second = matrix.factors()
    assert (first.shape, second.shape) == ((3, 5), (7, 3))
    torch.testing.assert_close(second @ first, matrix.dense())
    torch.testing.assert_close(second.T @ second, first @ first.T)
    assert first.is_contiguous()
    assert second.is_contiguous()


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (3, 0)])
def test_the_zero_matrix_has_rank_zero(shape: tuple[int, int]) -> None:
    zero = LowRank.zero(shape, torch.device("cpu"))
    assert zero.rank == 0
    assert zero.nuclear_norm == 0
    assert torch.equal(zero.dense(), torch.zeros(*shape, dtype=torch.float64))
    assert [factor.shape for factor in zero.factors()] == [(0, shape[1]), (shape[0], 0)]
