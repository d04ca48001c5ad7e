"""Theory of gradient flow against finite differences of descent and of flow, and against plain formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dmf_fast import Observations, reference
from dmf_fast.chain import balancedness
from dmf_fast.dynamics import (
    compare_velocities,
    end_to_end_velocity,
    gradient_in_singular_basis,
    loss_gradient,
    singular_value_velocities,
    singular_vector_alignment,
)
from dmf_fast.initialization import initialize
from dmf_fast.training.gradient_flow import gradient_flow
from tests.problems import Problem, make_problem

Array = np.ndarray[Any, np.dtype[np.float64]]

# Depths 1 to 4; square, tall and wide; "narrow" chains have a product of less than full rank.
FULL = [(6, 6), (5, 8), (9, 5), (6, 6, 6), (5, 7, 8), (9, 6, 5), (6, 7, 6, 6), (8, 5, 9, 5), (5, 6, 5, 7, 8)]
NARROW = [(6, 3, 6), (5, 2, 8), (9, 4, 6, 5), (5, 6, 3, 7, 8)]
NEGLIGIBLE = 1e-10
TINY = 1e-5


def some_problem(dims: tuple[int, ...]) -> Problem:
    return make_problem(dims, density=0.6, weighted=True)


def balanced(dims: tuple[int, ...], init_scale: float = 0.3) -> list[Tensor]:
    return initialize("balanced", dims, init_scale, seed=1, dtype=torch.float64)


def dense(factors: list[Tensor]) -> Tensor:
    return reference.chain_product(factors).detach()


def spectrum(factors: list[Tensor]) -> Array:
    return np.linalg.svd(dense(factors).numpy(), compute_uv=False)


def descended(factors: list[Tensor], problem: Problem, step_size: float) -> list[Tensor]:
    """One step of gradient descent on the mean loss, by the oracle."""
    leaves = [factor.detach().requires_grad_() for factor in factors]
    loss = reference.completion_loss(leaves, problem.rows, problem.columns, problem.values, problem.weights)
    gradients = torch.autograd.grad(loss, leaves)
    return [(leaf - step_size * slope).detach() for leaf, slope in zip(leaves, gradients, strict=True)]


def stepped_velocities(factors: list[Tensor], problem: Problem) -> Array:
    """How fast gradient descent moves the singular values: one tiny step down less one up."""
    down, up = (spectrum(descended(factors, problem, step)) for step in (TINY, -TINY))
    return (down - up) / (2 * TINY)


def predicted_velocities(factors: list[Tensor], problem: Problem, exponent_of: int | None = None) -> Array:
    """The theorem, if asked with the exponent of another depth in place of its own."""
    depth = len(factors)
    product = dense(factors)
    gradient = loss_gradient(product, problem.observations())
    _, velocities = singular_value_velocities(product, gradient, exponent_of or depth)
    return velocities.numpy() * depth / (exponent_of or depth)


def worst_error(predicted: Array, measured: Array, singular_values: Array) -> float:
    """The largest relative error of the singular values that are not negligible."""
    there = singular_values > NEGLIGIBLE
    assert there.any()
    return float((np.abs(predicted - measured) / np.abs(measured))[there].max())


def power(matrix: Array, exponent: float) -> Array:
    """A power of a symmetric positive semidefinite matrix, the power 0 of any being the identity."""
    values, vectors = np.linalg.eigh(matrix)
    values[values < 1e-13 * values.max()] = 0.0
    return (vectors * values**exponent) @ vectors.T


def naive_velocity(product: Array, gradient: Array, depth: int) -> Array:
    terms = [
        power(product @ product.T, (j - 1) / depth)
        @ gradient
        @ power(product.T @ product, (depth - j) / depth)
        for j in range(1, depth + 1)
    ]
    return -np.sum(terms, axis=0)


@pytest.mark.parametrize("dims", [*FULL, *NARROW])
def test_velocities_are_those_of_one_tiny_step_of_gradient_descent(dims: tuple[int, ...]) -> None:
    problem, factors = some_problem(dims), balanced(dims)
    predicted, measured = predicted_velocities(factors, problem), stepped_velocities(factors, problem)
    assert worst_error(predicted, measured, spectrum(factors)) < 1e-6


@pytest.mark.parametrize("dims", FULL)
def test_the_exponent_of_another_depth_is_wrong_clearly(dims: tuple[int, ...]) -> None:
    problem, factors = some_problem(dims), balanced(dims)
    predicted = predicted_velocities(factors, problem, exponent_of=len(factors) + 1)
    assert worst_error(predicted, stepped_velocities(factors, problem), spectrum(factors)) > 0.1


def test_factors_that_are_not_balanced_do_not_obey() -> None:
    dims = (5, 7, 8)
    problem = some_problem(dims)
    inner, outer = balanced(dims)
    factors = [2 * inner, outer / 2]
    assert float(balancedness(factors)) > 0.1
    predicted, measured = predicted_velocities(factors, problem), stepped_velocities(factors, problem)
    assert worst_error(predicted, measured, spectrum(factors)) > 0.1


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dims", [(6, 6), (5, 7, 8), (8, 5, 9, 5), (5, 6, 3, 7, 8)])
def test_a_product_under_gradient_flow_moves_as_predicted(dims: tuple[int, ...], reduction: Any) -> None:
    train, middle = some_problem(dims).observations(), 2.0 if reduction == "mean" else 0.1
    around = 5e-5 * middle
    flow = gradient_flow(
        balanced(dims, 0.5),
        train,
        [middle - around, middle, middle + around],
        reduction=reduction,
        rtol=1e-13,
        atol=1e-14,
    )
    before, now, after = flow.factors
    product = dense(now)
    gradient = loss_gradient(product, train, reduction)
    measured = (dense(after) - dense(before)) / (2 * around)
    predicted = end_to_end_velocity(product, gradient, len(now))
    torch.testing.assert_close(predicted, measured, rtol=1e-6, atol=1e-6 * float(measured.abs().max()))
    velocities = (spectrum(after) - spectrum(before)) / (2 * around)
    _, predicted_values = singular_value_velocities(product, gradient, len(now))
    assert worst_error(predicted_values.numpy(), velocities, spectrum(now)) < 1e-5


@pytest.mark.parametrize("dims", [*FULL, *NARROW])
def test_a_product_moves_as_one_tiny_step_of_gradient_descent_moves_it(dims: tuple[int, ...]) -> None:
    problem, factors = some_problem(dims), balanced(dims)
    down, up = (dense(descended(factors, problem, step)) for step in (TINY, -TINY))
    measured = (down - up) / (2 * TINY)
    product = dense(factors)
    predicted = end_to_end_velocity(product, loss_gradient(product, problem.observations()), len(factors))
    torch.testing.assert_close(predicted, measured, rtol=1e-7, atol=1e-7 * float(measured.abs().max()))


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(("rows", "columns", "rank"), [(6, 6, 6), (7, 4, 4), (4, 7, 4), (6, 8, 3), (5, 5, 0)])
def test_end_to_end_velocity_is_the_sum_of_matrix_powers(
    depth: int, rows: int, columns: int, rank: int
) -> None:
    generator = np.random.default_rng(0)
    product = generator.standard_normal((rows, rank)) @ generator.standard_normal((rank, columns))
    gradient = generator.standard_normal((rows, columns))
    velocity = end_to_end_velocity(torch.from_numpy(product), torch.from_numpy(gradient), depth)
    np.testing.assert_allclose(velocity, naive_velocity(product, gradient, depth), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize(("rows", "columns"), [(6, 6), (7, 4), (4, 7)])
def test_velocities_of_singular_values_are_that_of_the_product_between_its_singular_vectors(
    depth: int, rows: int, columns: int
) -> None:
    generator = np.random.default_rng(0)
    product, gradient = generator.standard_normal((2, rows, columns))
    left, values, right_transposed = np.linalg.svd(product, full_matrices=False)
    velocity = naive_velocity(product, gradient, depth)
    singular_values, velocities = singular_value_velocities(
        torch.from_numpy(product), torch.from_numpy(gradient), depth
    )
    np.testing.assert_allclose(singular_values, values, rtol=1e-12)
    np.testing.assert_allclose(
        velocities, np.diag(left.T @ velocity @ right_transposed.T), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("depth", [2, 3, 20])
def test_a_zero_singular_value_rests_and_its_rounding_is_not_blown_up_by_depth(depth: int) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right, gradient = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in [(9, 2), (2, 7), (9, 7)]
    )
    product = left @ right
    values, velocities = singular_value_velocities(product, gradient, depth)
    assert values[2:].tolist() == [0.0] * 5
    assert velocities[2:].tolist() == [0.0] * 5
    velocity = end_to_end_velocity(product, gradient, depth)
    outside_left, outside_right = (
        torch.eye(len(basis), dtype=torch.float64) - basis @ torch.linalg.pinv(basis)
        for basis in (left, right.T)
    )
    assert float((outside_left @ velocity @ outside_right).abs().max()) < 1e-11


def test_of_equal_singular_values_the_sum_of_the_velocities_is_determined() -> None:
    gradient = torch.tensor([[1.0, 5.0], [-2.0, 3.0]], dtype=torch.float64)
    _, velocities = singular_value_velocities(2 * torch.eye(2), gradient, depth=2)
    assert float(velocities.sum()) == pytest.approx(-2 * 2.0 * (1.0 + 3.0))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_gradient_of_the_loss_is_twice_the_weighted_residual_where_observed(
    reduction: Any, weighted: bool, dtype: torch.dtype
) -> None:
    problem = make_problem((7, 5), weighted=weighted, dtype=dtype)
    product = dense(problem.factors)
    weights = torch.ones(len(problem.rows)) if problem.weights is None else problem.weights
    residual = product[problem.rows, problem.columns].double() - problem.values.double()
    expected = torch.zeros(5, 7, dtype=torch.float64)
    expected[problem.rows, problem.columns] = 2 * weights.double() * residual
    if reduction == "mean":
        expected /= weights.double().sum()
    gradient = loss_gradient(product, problem.observations(), reduction)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-14)
    assert not gradient.requires_grad


def test_the_k_largest_are_the_first_of_all() -> None:
    generator = torch.Generator().manual_seed(0)
    product, gradient = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    for some, every in zip(
        singular_value_velocities(product, gradient, 3, 2),
        singular_value_velocities(product, gradient, 3),
        strict=True,
    ):
        torch.testing.assert_close(some, every[:2], rtol=0, atol=0)
    in_basis = gradient_in_singular_basis(product, gradient)
    torch.testing.assert_close(gradient_in_singular_basis(product, gradient, 2), in_basis[:2, :2])


def test_the_gradient_in_the_singular_basis_is_diagonal_where_their_singular_vectors_agree() -> None:
    generator = np.random.default_rng(0)
    left, right = (np.linalg.qr(generator.standard_normal((length, 3))).Q for length in (6, 4))
    product, gradient = left @ np.diag([3.0, 2.0, 1.0]) @ right.T, left @ np.diag([-1.0, 5.0, 2.0]) @ right.T
    aligned = gradient_in_singular_basis(torch.from_numpy(product), torch.from_numpy(gradient), 3)
    np.testing.assert_allclose(aligned, np.diag([-1.0, 5.0, 2.0]), atol=1e-14)
    turned = gradient_in_singular_basis(
        torch.from_numpy(product), torch.from_numpy(np.roll(gradient, 1, axis=0)), 3
    )
    assert float((turned - turned.diag().diag()).abs().max()) > 0.1


def test_matrices_with_the_same_singular_vectors_are_aligned_whatever_their_signs() -> None:
    product = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for other in (product, -product, 3 * product, product.float()):
        for alignment in singular_vector_alignment(product, other):
            torch.testing.assert_close(alignment, torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-5)


def test_vectors_at_an_angle_are_aligned_by_its_cosine() -> None:
    cosine, sine = math.cos(0.7), math.sin(0.7)
    turn = torch.tensor([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]], dtype=torch.float64)
    product = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
    left, right = singular_vector_alignment(product, turn @ product)
    assert left.tolist() == pytest.approx([cosine, cosine, 1])
    assert right.tolist() == pytest.approx([1, 1, 1])


def test_orthogonal_vectors_are_not_aligned() -> None:
    product = torch.diag(torch.tensor([3.0, 2.0, 0.0, 0.0]))
    for alignment in singular_vector_alignment(product, product.flip(0, 1), 2):
        assert alignment.tolist() == pytest.approx([0, 0], abs=1e-15)


def test_a_run_of_gradient_flow_is_compared_to_the_second_order_of_the_interval() -> None:
    dims = (6, 7, 6, 6)
    train = some_problem(dims).observations()

    def error(intervals: int) -> float:
        times = np.linspace(0, 0.4, intervals + 1).tolist()
        states = gradient_flow(balanced(dims), train, times, rtol=1e-12).factors
        comparison = compare_velocities(states, times, train, k=3)
        assert comparison.predicted.shape == comparison.relative_errors.shape == (intervals, 3)
        return float(comparison.relative_errors.max())

    coarse, fine = error(10), error(20)
    assert fine < 1e-2
    assert coarse / fine == pytest.approx(4, rel=0.2)


def test_a_run_of_gradient_descent_is_compared_at_step_times_step_size() -> None:
    dims, step_size = (5, 7, 8), 1e-3
    problem = some_problem(dims)
    states = [balanced(dims)]
    for _ in range(20):
        states.append(descended(states[-1], problem, step_size))
    times = [step * step_size for step in range(0, 21, 10)]
    comparison = compare_velocities(states[::10], times, problem.observations())
    assert comparison.times.tolist() == pytest.approx([5e-3, 15e-3])
    values = np.stack([spectrum(factors) for factors in states[::10]])
    np.testing.assert_allclose(comparison.measured, np.diff(values, axis=0) / (10 * step_size), rtol=1e-9)
    np.testing.assert_allclose(comparison.singular_values, (values[1:] + values[:-1]) / 2, rtol=1e-12)
    assert float(comparison.relative_errors.max()) < 1e-2
    slowed = compare_velocities(states[::10], [2 * time for time in times], problem.observations())
    torch.testing.assert_close(slowed.relative_errors, torch.ones(2, 5).double(), rtol=0, atol=2e-2)


def test_a_run_at_rest_has_no_error() -> None:
    train = Observations([0], [0], [2.0])
    states = [[torch.eye(1), 2 * torch.eye(1)]] * 2
    assert compare_velocities(states, [0, 1], train).relative_errors.tolist() == [[0.0]]


ONES = torch.ones(2, 3)
TRAIN = Observations([0], [1], [1.0], (2, 3))
STATES = [[ONES], [ONES]]


@pytest.mark.parametrize(
    ("function", "arguments", "error", "words"),
    [
        (end_to_end_velocity, ([[1.0]], ONES, 2), TypeError, "`product` must be a tensor .*, got list"),
        (end_to_end_velocity, (ONES, ONES * 1j, 2), TypeError, "`gradient` must be .*got torch.complex64"),
        (
            end_to_end_velocity,
            (ONES[0], ONES, 2),
            ValueError,
            r"`product` must be a matrix, got shape \(3,\)",
        ),
        (
            end_to_end_velocity,
            (ONES, ONES.T, 2),
            ValueError,
            "`product` and `gradient` must have the same shape",
        ),
        (end_to_end_velocity, (ONES, ONES, 0), ValueError, "`depth` must be at least 1, got 0"),
        (singular_value_velocities, (ONES, ONES, 1.5), TypeError, "`depth` must be a whole number, got 1.5"),
        (singular_value_velocities, (ONES, ONES, 2, 3), ValueError, "`k` must be from 1 to .* = 2, got 3"),
        (gradient_in_singular_basis, (ONES, ONES, 0), ValueError, "`k` must be from 1 to .*, got 0"),
        (
            singular_vector_alignment,
            (ONES, ONES[:1]),
            ValueError,
            "`product` and `other` must have the same shape",
        ),
        (loss_gradient, (ONES / 0, TRAIN), torch.linalg.LinAlgError, "`product` must be finite"),
        (
            loss_gradient,
            (ONES.T, TRAIN),
            ValueError,
            r"product of `factors` must have the shape of `observations`, \(2, 3\), got \(3, 2\)",
        ),
        (loss_gradient, (ONES, ONES), TypeError, "`observations` must be dmf_fast.Observations"),
        (loss_gradient, (ONES, TRAIN, "max"), ValueError, "`reduction` must be"),
        (compare_velocities, (STATES[:1], [0], TRAIN), ValueError, "`times` must .* two or more states"),
        (compare_velocities, (STATES, [0, 1, 2], TRAIN), ValueError, "got .* for 2 states"),
        (compare_velocities, (STATES, [1, 1], TRAIN), ValueError, "strictly increasing"),
        (compare_velocities, (STATES, [0, math.inf], TRAIN), ValueError, "finite"),
        (compare_velocities, ([ONES, ONES], [0, 1], TRAIN), TypeError, "`factors` must be a sequence"),
    ],
)
def test_a_bad_argument_is_named(function: Any, arguments: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        function(*arguments)
