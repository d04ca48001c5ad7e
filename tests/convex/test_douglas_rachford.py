"""Certificates: bounds that hold however early the splitting stops, and numbers that NumPy finds again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dmf_fast import Observations
from dmf_fast.convex import (
    ConvexOptions,
    ConvexSolution,
    minimum_nuclear_norm,
    nuclear_norm_path,
    nuclear_norm_regression,
)
from dmf_fast.experiments import low_rank_problem
from tests.convex import oracle

STOPS = [1, 3, 7, 10, 25]
SHAPES = [(12, 20), (20, 12), (25, 25)]
METHODS = ["dense", "truncated"]


def problem(shape: tuple[int, int], weighted: bool = False) -> tuple[NDArray[np.float64], Observations]:
    """Return a matrix of rank 2 and half of its entries."""
    rows, columns = shape
    drawn = low_rank_problem(rows, columns, 2, rows * columns // 2, seed=1, dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    weights = torch.rand(drawn.train.nnz, generator=generator, dtype=torch.float64) if weighted else None
    return drawn.truth.numpy(), drawn.train.with_values(drawn.train.values, weights)


def feasible_matrices(
    truth: NDArray[np.float64], train: Observations, epsilon: float
) -> list[NDArray[np.float64]]:
    """Return the truth and others that leave its observed entries by epsilon at most."""
    random = np.random.default_rng(0)
    free = oracle.on_pattern(train, torch.ones(train.nnz)) == 0
    return [truth] + [
        truth
        + size * free * random.standard_normal(truth.shape)
        + epsilon * random.uniform(-1, 1, truth.shape)
        for size in (0.0, 1e-3, 1.0)
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("iterations", STOPS)
@pytest.mark.parametrize("method", METHODS)
def test_no_feasible_matrix_is_below_the_bound_of_the_constrained_problem(
    shape: tuple[int, int], epsilon: float, iterations: int, method: str
) -> None:
    truth, train = problem(shape)
    options = ConvexOptions(tolerance=1e-12, iterations=iterations, thresholding=method)
    found = minimum_nuclear_norm(train, epsilon, options)

    assert found.iterations == iterations
    assert not found.converged
    assert found.lower_bound > 0
    for feasible in feasible_matrices(truth, train, epsilon):
        assert found.lower_bound <= oracle.nuclear_norm(feasible) * (1 + 1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("iterations", STOPS)
@pytest.mark.parametrize("method", METHODS)
def test_no_matrix_is_below_the_bound_of_the_regression(
    shape: tuple[int, int], weighted: bool, iterations: int, method: str
) -> None:
    truth, train = problem(shape, weighted)
    options = ConvexOptions(tolerance=1e-12, iterations=iterations, thresholding=method)
    found = nuclear_norm_regression(train, 1.0, options)
    best = nuclear_norm_regression(train, 1.0, ConvexOptions(tolerance=1e-7)).matrix.dense().numpy()

    assert found.iterations == iterations
    assert found.lower_bound > 0
    random = np.random.default_rng(0)
    nearby = [best + size * random.standard_normal(shape) for size in (1e-6, 1e-3, 1e-1)]
    for matrix in (truth, best, 0.9 * truth, np.zeros(shape), *nearby):
        objective = oracle.regression_objective(matrix, train, 1.0)
        assert found.lower_bound <= objective * (1 + 1e-12)


@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
@pytest.mark.parametrize("method", METHODS)
def test_bounds_are_not_above_the_optimum_of_another_solver(shape: tuple[int, int], method: str) -> None:
    _, train = problem(shape)
    constrained = oracle.least_nuclear_norm(train, 0.1)
    regression = oracle.least_regression_objective(train, 1.0)
    for iterations in (*STOPS, 1_000):
        options = ConvexOptions(tolerance=1e-6, iterations=iterations, thresholding=method)
        # SCS is right to 1e-8 of the data, about.
        assert minimum_nuclear_norm(train, 0.1, options).lower_bound <= constrained * (1 + 1e-6)
        assert nuclear_norm_regression(train, 1.0, options).lower_bound <= regression * (1 + 1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("iterations", [1, 7, 10_000])
@pytest.mark.parametrize("method", METHODS)
def test_numpy_finds_the_numbers_of_the_constrained_problem_again(
    shape: tuple[int, int], iterations: int, method: str
) -> None:
    _, train = problem(shape)
    options = ConvexOptions(tolerance=1e-4, iterations=iterations, thresholding=method)
    found = minimum_nuclear_norm(train, 0.1, options)
    beyond = np.maximum(np.abs(oracle.residuals(found.matrix.dense().numpy(), train)) - 0.1, 0)

    check_shape_of_the_triples(found)
    assert found.objective == pytest.approx(oracle.nuclear_norm(found.matrix.dense().numpy()), rel=1e-9)
    assert found.violation == pytest.approx(beyond.max() / 0.1, rel=1e-6, abs=1e-9)
    assert found.largest_violation == pytest.approx(beyond.max(), rel=1e-6, abs=1e-12)
    check_bound(found, oracle.constrained_bound(found.dual, train, 0.1), options)
    if iterations == 10_000:
        assert found.converged
        assert found.relative_gap <= 1e-4
        assert found.violation <= 1e-4


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("iterations", [1, 7, 10_000])
@pytest.mark.parametrize("method", METHODS)
def test_numpy_finds_the_numbers_of_the_regression_again(
    shape: tuple[int, int], weighted: bool, iterations: int, method: str
) -> None:
    _, train = problem(shape, weighted)
    options = ConvexOptions(tolerance=1e-4, iterations=iterations, thresholding=method)
    found = nuclear_norm_regression(train, 0.5, options)

    check_shape_of_the_triples(found)
    objective = oracle.regression_objective(found.matrix.dense().numpy(), train, 0.5)
    assert found.objective == pytest.approx(objective, rel=1e-9)
    assert found.violation == found.largest_violation == 0
    check_bound(found, oracle.regression_bound(found.dual, train, 0.5), options)
    if iterations == 10_000:
        assert found.converged
        assert found.relative_gap <= 1e-4


def check_shape_of_the_triples(found: ConvexSolution) -> None:
    values, identity = found.matrix.singular_values, torch.eye(found.matrix.rank, dtype=torch.float64)
    assert (values > 0).all()
    assert (values[1:] <= values[:-1]).all()
    for side in (found.matrix.left, found.matrix.right):
        torch.testing.assert_close(side.T @ side, identity, rtol=0, atol=1e-10)


def check_bound(found: ConvexSolution, proven: float, options: ConvexOptions) -> None:
    """A bound is what the dual proves, less what its norm is taken too large."""
    too_large = 1e-9 if options.thresholding == "dense" else 1e-6  # as `ConvexSolution.lower_bound` says
    assert proven * (1 - options.tolerance / 5) <= found.lower_bound <= proven * (1 + too_large)


def test_another_start_does_not_weaken_the_bound_of_an_entry_without_weight() -> None:
    # The dual of the start is not 0 where the weights of the next problem are.
    _, train = problem((12, 20))
    start = nuclear_norm_regression(train, 1.0)
    weights = torch.ones(train.nnz, dtype=torch.float64)
    weights[::2] = 0
    switched_off = train.with_values(train.values, weights)
    least = oracle.least_regression_objective(switched_off, 1.0)
    for iterations in (1, 2, 5, 1_000):
        options = ConvexOptions(tolerance=1e-6, iterations=iterations)
        found = nuclear_norm_regression(switched_off, 1.0, options, start=start)
        assert found.lower_bound <= least * (1 + 1e-6)
    assert found.converged


def test_iterations_end_where_they_are_told_to() -> None:
    _, train = problem((25, 25))
    for iterations in (1, 13):
        found = minimum_nuclear_norm(train, 0.0, ConvexOptions(1e-9, iterations))
        assert (found.iterations, found.converged) == (iterations, False)


@pytest.mark.parametrize("method", METHODS)
def test_high_accuracy_is_reached_where_the_constraints_are_tight(method: str) -> None:
    train = low_rank_problem(100, 100, 5, 5_000, seed=0, dtype=torch.float64).train
    found = minimum_nuclear_norm(train, 1e-3, ConvexOptions(1e-4, 2_000, thresholding=method))
    assert found.converged


def test_a_path_of_falling_weights_has_rising_norms_and_falling_errors() -> None:
    _, train = problem((25, 25))
    path = nuclear_norm_path(train, [8.0, 4.0, 2.0, 1.0], ConvexOptions(1e-6))
    norms = [solution.matrix.nuclear_norm for solution in path]
    errors = [
        float(np.square(oracle.residuals(solution.matrix.dense().numpy(), train)).sum()) for solution in path
    ]
    assert norms == sorted(norms)
    assert errors == sorted(errors, reverse=True)
