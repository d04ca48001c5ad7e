"""Nuclear-norm minimization: another solver, closed forms, and what does not change the solution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dmf_fast import Observations
from dmf_fast.convex import (
    ConvexOptions,
    ConvexSolution,
    minimum_nuclear_norm,
    nuclear_norm_path,
    nuclear_norm_regression,
)
from dmf_fast.data import ReadOptions, read_ratings
from dmf_fast.experiments import low_rank_problem
from tests.convex import oracle

PRECISE = ConvexOptions(tolerance=1e-6, iterations=20_000)
SHAPES = [(12, 20), (20, 12), (18, 18)]


def observed(rows: int, columns: int, seed: int = 0, *, weighted: bool = False) -> Observations:
    """About half of a noisy matrix of rank 2."""
    train = low_rank_problem(
        rows, columns, 2, rows * columns // 2, seed, noise=0.1, dtype=torch.float64
    ).train
    generator = torch.Generator().manual_seed(seed)
    weights = 2 * torch.rand(train.nnz, generator=generator, dtype=torch.float64) if weighted else None
    return train.with_values(train.values, weights)


def full(matrix: Tensor) -> Observations:
    return Observations.from_dense(matrix)


def random_matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def test_the_nuclear_norm_is_that_of_another_solver_on_the_papers_problem() -> None:
    train = low_rank_problem(100, 100, 5, 2_000, seed=0, dtype=torch.float64).train
    found = minimum_nuclear_norm(train, 1e-3)

    assert found.converged
    assert found.objective == pytest.approx(oracle.least_nuclear_norm(train, 1e-3, eps=1e-4), rel=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("epsilon", [0.0, 1e-2, 0.5])
def test_the_least_nuclear_norm_is_that_of_another_solver(shape: tuple[int, int], epsilon: float) -> None:
    train = observed(*shape)
    least = oracle.least_nuclear_norm(train, epsilon)
    found = minimum_nuclear_norm(train, epsilon, ConvexOptions(tolerance=1e-5, iterations=20_000))

    assert found.converged
    assert found.objective == pytest.approx(least, rel=3e-5)
    assert found.lower_bound == pytest.approx(least, rel=3e-5)
    assert found.largest_violation <= 1e-4


@pytest.mark.parametrize("thresholding", ["dense", "truncated"])
@pytest.mark.parametrize("epsilon", [0.0, 1e-3, 0.1, 1.0])
def test_what_has_converged_is_within_epsilon_and_what_is_not_has_not(
    epsilon: float, thresholding: Any
) -> None:
    train = observed(30, 20)
    size = epsilon or train.values.square().mean().sqrt().item()
    seen = set()
    for iterations in (1, 10, 30, 2_000):
        options = ConvexOptions(iterations=iterations, thresholding=thresholding)
        found = minimum_nuclear_norm(train, epsilon, options)
        off = np.abs(oracle.residuals(found.matrix.dense().numpy(), train)).max()
        if found.converged:
            assert off - epsilon <= 1.001e-3 * size
        seen.add(found.converged)
    assert seen == {False, True}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("regularization", [0.1, 1.0, 5.0])
def test_the_regression_is_that_of_another_solver(
    shape: tuple[int, int], weighted: bool, regularization: float
) -> None:
    train = observed(*shape, weighted=weighted)
    least = oracle.least_regression_objective(train, regularization)
    found = nuclear_norm_regression(train, regularization, PRECISE)

    assert found.converged
    assert found.objective == pytest.approx(least, rel=3e-6)
    assert found.lower_bound == pytest.approx(least, rel=3e-6)


@pytest.mark.parametrize("shape", [(9, 14), (14, 9), (10, 10)])
@pytest.mark.parametrize("thresholding", ["dense", "truncated"])
def test_where_all_is_observed_the_regression_lowers_every_singular_value_by_half_the_weight(
    shape: tuple[int, int], thresholding: str
) -> None:
    matrix = random_matrix(*shape)
    left, values, right = np.linalg.svd(matrix.numpy(), full_matrices=False)
    expected = (left * np.maximum(values - 4.0 / 2, 0)) @ right
    options = ConvexOptions(tolerance=1e-10, thresholding=thresholding)
    found = nuclear_norm_regression(full(matrix), 4.0, options)

    assert 0 < found.matrix.rank < min(shape)
    np.testing.assert_allclose(found.matrix.dense().numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("factor", [1.0, 1.001, 10.0])
@pytest.mark.parametrize("thresholding", ["dense", "truncated"])
def test_from_twice_the_largest_singular_value_on_the_regression_is_exactly_zero(
    weighted: bool, factor: float, thresholding: str
) -> None:
    train = observed(15, 11, weighted=weighted)
    products = torch.from_numpy(oracle.weights(train)) * train.values
    largest = oracle.operator_norm(oracle.on_pattern(train, products))
    found = nuclear_norm_regression(
        train, 2 * factor * largest, ConvexOptions(1e-5, thresholding=thresholding)
    )

    assert found.converged
    assert found.matrix.rank == 0
    assert found.objective == pytest.approx(float(train.values @ products))
    assert found.lower_bound == pytest.approx(found.objective, rel=1e-5)


def test_below_twice_the_largest_singular_value_the_regression_is_not_zero() -> None:
    train = observed(15, 11)
    largest = oracle.operator_norm(oracle.on_pattern(train, train.values))
    assert nuclear_norm_regression(train, 1.98 * largest, PRECISE).matrix.rank > 0


@pytest.mark.parametrize("thresholding", ["dense", "truncated"])
def test_one_entry_alone_is_kept_and_the_rest_is_zero(thresholding: str) -> None:
    train = Observations([2], [1], torch.tensor([-3.0], dtype=torch.float64), (4, 5))
    expected = torch.zeros(4, 5, dtype=torch.float64)
    options = ConvexOptions(tolerance=1e-8, thresholding=thresholding)

    expected[2, 1] = -2.5
    found = minimum_nuclear_norm(train, 0.5, options)
    torch.testing.assert_close(found.matrix.dense(), expected, rtol=0, atol=1e-7)

    expected[2, 1] = -2.0  # the least of (x + 3)² + 2 |x|, from which it rises by (x + 2)²: 1e-8 of 5 is 2e-4
    found = nuclear_norm_regression(train, 2.0, options)
    torch.testing.assert_close(found.matrix.dense(), expected, rtol=0, atol=3e-4)


def test_a_cross_of_a_positive_rank_one_matrix_recovers_it() -> None:
    # From one row and one column: no other completion has a nuclear norm as small.
    truth = torch.outer(torch.tensor([2.0, 1.0, 0.5]), torch.tensor([1.0, 0.5, 0.25, 0.25])).double()
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[0] = mask[:, 0] = True
    found = minimum_nuclear_norm(Observations.from_dense(truth, mask), options=PRECISE)

    torch.testing.assert_close(found.matrix.dense(), truth, rtol=0, atol=1e-4)
    assert found.objective == pytest.approx(oracle.nuclear_norm(truth.numpy()), rel=1e-5)


def test_half_of_a_large_matrix_of_rank_one_recovers_it() -> None:
    problem = low_rank_problem(40, 50, 1, 1_000, seed=3, dtype=torch.float64)
    found = minimum_nuclear_norm(problem.train, options=PRECISE)

    assert found.matrix.rank == 1
    torch.testing.assert_close(found.matrix.dense(), problem.truth, rtol=0, atol=1e-3)


@pytest.mark.parametrize("values", [torch.zeros(4), torch.full((4,), -0.5)])
@pytest.mark.parametrize("thresholding", ["dense", "truncated"])
def test_where_zero_is_allowed_it_is_the_least(values: Tensor, thresholding: str) -> None:
    train = Observations([0, 1, 2, 2], [1, 1, 0, 2], values, (4, 3))
    found = minimum_nuclear_norm(train, 0.5, ConvexOptions(thresholding=thresholding))

    assert found.converged
    assert found.objective == found.lower_bound == found.violation == found.relative_gap == 0
    assert found.matrix.rank == 0


@pytest.mark.parametrize("thresholding", ["dense", "truncated"])
def test_zeros_and_entries_without_weight_give_the_zero_matrix(thresholding: str) -> None:
    options = ConvexOptions(thresholding=thresholding)
    zeros = Observations([0, 1, 2], [1, 1, 0], torch.zeros(3), (4, 3))
    weightless = zeros.with_values([1.0, 2.0, 3.0], weights=[0.0, 0.0, 0.0])
    for found in (
        minimum_nuclear_norm(zeros, options=options),
        nuclear_norm_regression(zeros, 1.0, options),
        nuclear_norm_regression(weightless, 1.0, options),
    ):
        assert found.converged
        assert found.objective == found.lower_bound == 0
        assert not found.matrix.dense().any()


def test_an_entry_without_weight_is_as_one_that_is_not_observed() -> None:
    train = observed(10, 12)
    weights = torch.ones(train.nnz, dtype=torch.float64)
    weights[::3] = 0
    kept = weights > 0
    rows, columns = train.rows[kept], train.columns[kept]
    fewer = Observations(rows, columns, train.values[kept], train.shape)
    switched_off = nuclear_norm_regression(train.with_values(train.values, weights), 1.0, PRECISE)
    left_out = nuclear_norm_regression(fewer, 1.0, PRECISE)

    assert switched_off.objective == pytest.approx(left_out.objective, rel=1e-6)
    torch.testing.assert_close(switched_off.matrix.dense(), left_out.matrix.dense(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(3, 4), (1, 1), (0, 4), (3, 0), (0, 0)])
def test_without_entries_the_solution_is_zero(shape: tuple[int, int]) -> None:
    empty = Observations([], [], [], shape)
    for found in (minimum_nuclear_norm(empty), nuclear_norm_regression(empty, 1.0)):
        assert found.converged
        assert (found.objective, found.lower_bound, found.iterations) == (0, 0, 0)
        assert found.matrix.dense().shape == shape
        assert not found.matrix.dense().any()


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (1, 1)])
@pytest.mark.parametrize("thresholding", ["dense", "truncated"])
def test_a_matrix_of_one_row_or_column_is_shrunk_as_a_vector(
    shape: tuple[int, int], thresholding: str
) -> None:
    vector = random_matrix(*shape, seed=4) + 1
    size = float(vector.norm())
    options = ConvexOptions(tolerance=1e-9, thresholding=thresholding)

    nearest = minimum_nuclear_norm(full(vector), 0.25, options).matrix.dense()
    shrunk = nuclear_norm_regression(full(vector), size, options).matrix.dense()
    expected = vector.sign() * (vector.abs() - 0.25).clamp_min(0)
    torch.testing.assert_close(nearest, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(shrunk, vector / 2, rtol=0, atol=1e-6)


def test_float32_values_are_solved_in_float64() -> None:
    single = low_rank_problem(20, 15, 2, 150, seed=0).train
    double = single.to(dtype=torch.float64)
    for found, expected in (
        (minimum_nuclear_norm(single, 0.1), minimum_nuclear_norm(double, 0.1)),
        (nuclear_norm_regression(single, 1.0), nuclear_norm_regression(double, 1.0)),
    ):
        assert found.dual.dtype == found.matrix.left.dtype == torch.float64
        assert torch.equal(found.matrix.dense(), expected.matrix.dense())


@pytest.mark.parametrize("thresholding", ["dense", "truncated"])
def test_the_transposed_problem_has_the_transposed_solution(thresholding: str) -> None:
    train = observed(16, 23, weighted=True)
    options = ConvexOptions(tolerance=1e-7, iterations=20_000, thresholding=thresholding)
    found, flipped = (nuclear_norm_regression(one, 1.0, options) for one in (train, train.transpose()))

    assert flipped.objective == pytest.approx(found.objective, rel=1e-6)
    torch.testing.assert_close(flipped.matrix.dense(), found.matrix.dense().T, rtol=0, atol=1e-4)

    unweighted = train.with_values(train.values)
    found, flipped = (minimum_nuclear_norm(one, 0.1, options) for one in (unweighted, unweighted.transpose()))
    assert flipped.objective == pytest.approx(found.objective, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-8, 3.0, 1e8])
@pytest.mark.parametrize("thresholding", ["dense", "truncated"])
def test_scaled_values_scale_the_solution(scale: float, thresholding: str) -> None:
    train = observed(16, 13)
    scaled = train.with_values(scale * train.values)
    options = ConvexOptions(thresholding=thresholding)
    for found, other in (
        (minimum_nuclear_norm(train, 0.1, options), minimum_nuclear_norm(scaled, scale * 0.1, options)),
        (nuclear_norm_regression(train, 2.0, options), nuclear_norm_regression(scaled, scale * 2, options)),
    ):
        assert other.iterations == found.iterations
        assert other.relative_gap == pytest.approx(found.relative_gap, abs=1e-7)
        assert other.violation == pytest.approx(found.violation, abs=1e-7)
        torch.testing.assert_close(other.matrix.dense() / scale, found.matrix.dense(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("thresholding", ["dense", "truncated"])
def test_two_calls_give_the_same_bits(thresholding: str) -> None:
    train = observed(30, 25)
    options = ConvexOptions(thresholding=thresholding)
    one, other = (minimum_nuclear_norm(train, 0.1, options) for _ in range(2))

    assert torch.equal(one.matrix.dense(), other.matrix.dense())
    assert torch.equal(one.dual, other.dual)
    assert (one.objective, one.lower_bound, one.step) == (other.objective, other.lower_bound, other.step)


def with_threads(train: Observations, thresholding: str) -> list[ConvexSolution]:
    """Solve with one thread and with two."""
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(nuclear_norm_regression(train, 8.0, ConvexOptions(thresholding=thresholding)))
        assert torch.get_num_threads() == threads
    return found


@pytest.mark.parametrize("thresholding", ["dense", "truncated"])
def test_one_and_two_threads_give_the_same_bits_for_small_matrices(thresholding: str) -> None:
    one, two = with_threads(observed(60, 50), thresholding)
    assert torch.equal(one.matrix.dense(), two.matrix.dense())
    assert torch.equal(one.dual, two.dual)


@pytest.mark.parametrize("thresholding", ["dense", "truncated"])
def test_one_and_two_threads_agree_to_rounding_for_large_matrices(thresholding: str) -> None:
    # Not bitwise: LAPACK adds up in another order.
    train = low_rank_problem(210, 200, 3, 8_000, seed=0, noise=0.1, dtype=torch.float64).train
    one, two = with_threads(train, thresholding)
    assert one.iterations == two.iterations
    assert one.objective == pytest.approx(two.objective, rel=1e-9)
    assert one.lower_bound == pytest.approx(two.lower_bound, rel=1e-9)
    torch.testing.assert_close(one.matrix.dense(), two.matrix.dense(), rtol=0, atol=1e-9)


def test_a_path_takes_fewer_iterations_than_its_points_and_reaches_the_same_objectives() -> None:
    train = low_rank_problem(60, 50, 3, 1_500, seed=0, noise=0.2, dtype=torch.float64).train
    regularizations = [2.0 ** (5 - step / 4) for step in range(16)]
    options = ConvexOptions(tolerance=1e-5)
    path = nuclear_norm_path(train, regularizations, options)
    points = [nuclear_norm_regression(train, each, options) for each in regularizations]

    assert all(solution.converged for solution in path)
    assert sum(each.iterations for each in path) < sum(each.iterations for each in points)
    for along, alone in zip(path, points, strict=True):
        assert along.objective == pytest.approx(alone.objective, rel=2e-5)
        assert along.lower_bound <= alone.objective * (1 + 1e-12)
        assert alone.lower_bound <= along.objective * (1 + 1e-12)


def test_a_solution_is_where_its_own_call_would_start_and_end() -> None:
    train = observed(20, 20)
    found = nuclear_norm_regression(train, 1.0)
    again = nuclear_norm_regression(train, 1.0, start=found)

    assert again.iterations == 0
    assert again.objective == pytest.approx(found.objective, rel=1e-12)


@pytest.mark.slow
def test_movielens_is_solved_and_no_other_matrix_is_better(movielens_folder: Path) -> None:
    train = read_ratings(movielens_folder / "u.data", ReadOptions(dtype="float64")).observations()
    regularization = 0.1 * 2 * oracle.operator_norm(oracle.on_pattern(train, train.values))
    found = nuclear_norm_regression(train, regularization)

    assert found.converged
    assert 0 < found.matrix.rank < 20
    objective = oracle.regression_objective(found.matrix.dense().numpy(), train, regularization)
    assert found.objective == pytest.approx(objective, rel=1e-9)
    assert found.lower_bound <= oracle.regression_bound(found.dual, train, regularization) * (1 + 1e-9)
    assert found.relative_gap <= 1e-3
