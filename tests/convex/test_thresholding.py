"""Singular value thresholding compared with NumPy's SVD, both methods, and a matrix too large to form."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import pytest
import torch
from torch import Tensor

from dmf_fast import Observations
from dmf_fast.convex import ConvexOptions, LowRank, minimum_nuclear_norm, nuclear_norm_regression
from dmf_fast.convex.observed import ObservedEntries
from dmf_fast.convex.thresholding import DenseThresholding, Thresholding, TruncatedThresholding
from dmf_fast.experiments import low_rank_problem
from tests.convex import oracle
from tests.problems import make_problem

METHODS = [DenseThresholding, TruncatedThresholding]
SHAPES = [(12, 20), (20, 12), (15, 15)]


def low_rank(shape: tuple[int, int], values: list[float]) -> LowRank:
    generator = torch.Generator().manual_seed(3)
    left, right = (
        torch.linalg.qr(torch.randn(size, len(values), generator=generator, dtype=torch.float64)).Q
        for size in shape
    )
    return LowRank(left, torch.tensor(values, dtype=torch.float64), right)


def observations(shape: tuple[int, int]) -> Observations:
    return make_problem((shape[1], shape[0]), density=0.4).observations()


def soft_thresholded(matrix: np.ndarray, threshold: float) -> np.ndarray:
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    return (left * np.maximum(values - threshold, 0)) @ right


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threshold", [0.1, 2.0, 50.0])
def test_the_sum_is_soft_thresholded(
    method: type[DenseThresholding | TruncatedThresholding], shape: tuple[int, int], threshold: float
) -> None:
    start, entries = low_rank(shape, [5.0, 3.0]), observations(shape)
    sparse = entries.values
    expected = soft_thresholded(start.dense().numpy() + oracle.on_pattern(entries, sparse), threshold)
    found = method(ObservedEntries(entries), start)(sparse, threshold, 1.0)
    assert found.rank == np.linalg.matrix_rank(expected, tol=1e-9)
    np.testing.assert_allclose(found.dense().numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("relaxation", [1.0, 1.8])
def test_the_relaxed_matrix_moves_past_the_thresholded_one(
    method: type[DenseThresholding | TruncatedThresholding], relaxation: float
) -> None:
    shape = (10, 9)
    start, entries = low_rank(shape, [5.0, 3.0]), observations(shape)
    thresholding: Thresholding = method(ObservedEntries(entries), start)
    rows, columns = entries.rows, entries.columns
    torch.testing.assert_close(thresholding.relaxed_entries(), start.dense()[rows, columns])

    # A block of 9 columns spans all rows, so that nothing is dropped.
    found = thresholding(entries.values, 0.01, relaxation)
    moved = start.dense() + relaxation * (found.dense() - start.dense())
    torch.testing.assert_close(thresholding.relaxed_entries(), moved[rows, columns])


@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
def test_singular_values_of_very_different_sizes_keep_their_digits(shape: tuple[int, int]) -> None:
    values = [1.0, 1e-3, 1e-6, 1e-9]
    entries = observations(shape)
    dense = DenseThresholding(ObservedEntries(entries), low_rank(shape, values))
    found = dense(torch.zeros_like(entries.values), 1e-10, 1.0)

    torch.testing.assert_close(
        found.singular_values[:4], torch.tensor(values).double() - 1e-10, rtol=1e-4, atol=0
    )
    assert found.rank == 4
    for side in (found.left, found.right):
        torch.testing.assert_close(side.T @ side, torch.eye(4).double(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_the_operator_norm_is_the_largest_singular_value(
    method: type[DenseThresholding | TruncatedThresholding],
) -> None:
    for shape in SHAPES:
        entries = observations(shape)
        thresholding = method(ObservedEntries(entries), low_rank(shape, []))
        expected = oracle.operator_norm(oracle.on_pattern(entries, entries.values))
        assert thresholding.operator_norm(entries.values, 1e-8) == pytest.approx(expected, rel=1e-7)
        assert thresholding.operator_norm(0 * entries.values, 1e-8) == 0


def noisy_half(rows: int, columns: int) -> Observations:
    """Half of a noisy matrix of rank 4."""
    problem = low_rank_problem(rows, columns, 4, rows * columns // 2, seed=0, noise=0.3, dtype=torch.float64)
    return problem.train


@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (70, 70)])
@pytest.mark.parametrize("regularization", [0.3, 3.0, 20.0])
def test_both_methods_reach_the_same_regression(shape: tuple[int, int], regularization: float) -> None:
    # The smallest weight has a rank of about half the size: far beyond the first block.
    train = noisy_half(*shape)
    dense, truncated = (
        nuclear_norm_regression(train, regularization, ConvexOptions(1e-4, thresholding=method))
        for method in ("dense", "truncated")
    )
    assert dense.converged
    assert truncated.converged
    assert truncated.objective == pytest.approx(dense.objective, rel=1e-4)
    assert truncated.matrix.rank == pytest.approx(dense.matrix.rank, abs=1)
    if regularization == 0.3:
        assert dense.matrix.rank > 20


@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (70, 70)])
@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_both_methods_reach_the_same_nuclear_norm(shape: tuple[int, int], epsilon: float) -> None:
    train = noisy_half(*shape)
    dense, truncated = (
        minimum_nuclear_norm(train, epsilon, ConvexOptions(1e-4, thresholding=method))
        for method in ("dense", "truncated")
    )
    assert dense.converged
    assert truncated.converged
    assert truncated.objective == pytest.approx(dense.objective, rel=3e-4)


def test_parts_that_share_no_row_or_column_are_all_found() -> None:
    # Blocks along the diagonal: products with one part never say anything about another.
    parts, size = 40, 5
    rows, columns = (grid.flatten() for grid in torch.meshgrid(*[torch.arange(size)] * 2, indexing="ij"))
    offsets = size * torch.arange(parts)[:, None]
    strengths = torch.linspace(1, 3, parts, dtype=torch.float64)[:, None]
    values = (strengths * torch.ones(size * size, dtype=torch.float64)).flatten()
    train = Observations(
        (rows + offsets).flatten(), (columns + offsets).flatten(), values, (parts * size, parts * size)
    )
    found = nuclear_norm_regression(train, 8.0, ConvexOptions(1e-6, thresholding="truncated"))

    # A part is size · strength times a matrix of norm 1; half the weight is taken off, the rest is left.
    # (What stands between the parts is not determined.)
    left = size * strengths - 4.0
    entries = found.matrix.dense()[train.rows, train.columns].view(parts, -1)
    assert found.converged
    assert found.objective == pytest.approx(float(parts * 16 + 8.0 * left.sum()))
    torch.testing.assert_close(entries, (left / size).expand(parts, size * size), rtol=0, atol=1e-3)


def ratings(rows: int, columns: int, count: int) -> Observations:
    """Entries of 3 plus a matrix of rank 2, drawn uniformly."""
    random = np.random.default_rng(0)
    places = np.unique(random.integers(0, rows * columns, count + count // 50))[:count]
    left, right = random.standard_normal((rows, 2)), random.standard_normal((columns, 2))
    row_of, column_of = places // columns, places % columns
    values = 3 + (left[row_of] * right[column_of]).sum(1)
    return Observations(row_of, column_of, values, (rows, columns))


def refuse(*arguments: Tensor) -> NoReturn:
    raise AssertionError("a dense matrix was formed")


def test_a_large_matrix_is_never_formed(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in (
        (ObservedEntries, "dense"),
        (ObservedEntries, "entries_of_dense"),
        (LowRank, "dense"),
        (DenseThresholding, "__init__"),
    ):
        monkeypatch.setattr(owner, name, refuse)
    train = ratings(8_000, 6_000, 80_000)
    observed = ObservedEntries(train)
    regularization = 1.5 * observed.operator_norm(observed.values, 1e-3)
    found = nuclear_norm_regression(train, regularization)

    assert found.converged
    assert 0 < found.matrix.rank <= 20
