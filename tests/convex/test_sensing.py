"""Least nuclear norm under measurements: certificates by hand, another solver, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dmf_fast.convex.sensing import minimum_nuclear_norm_sensing
from dmf_fast.sensing import Measurements, gaussian_measurements, sensing_product


def matrix(rows: int, columns: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def unit_matrices(rows: int, columns: int) -> Tensor:
    """All matrices with a single one."""
    return torch.eye(rows * columns, dtype=torch.float64).unflatten(1, (rows, columns))


def test_a_measurement_along_a_rank_one_matrix_gives_back_that_matrix() -> None:
    left, right = (torch.nn.functional.normalize(matrix(size, 1, seed=size), dim=0) for size in (5, 4))
    direction = left @ right.T
    found = minimum_nuclear_norm_sensing(
        Measurements(direction[None], torch.tensor([3.0], dtype=torch.float64))
    )

    assert found.nuclear_norm == pytest.approx(3, rel=1e-6)
    assert found.lower_bound == pytest.approx(3, rel=1e-6)
    torch.testing.assert_close(found.product, 3 * direction, rtol=0, atol=1e-5)


def test_a_known_diagonal_has_the_sum_of_its_sizes() -> None:
    diagonal = torch.tensor([2.0, -1.0, 0.5, 0.0], dtype=torch.float64)
    found = minimum_nuclear_norm_sensing(Measurements(unit_matrices(4, 4)[::5], diagonal))

    assert found.nuclear_norm == pytest.approx(3.5, rel=1e-6)
    assert found.lower_bound <= 3.5 * (1 + 1e-12)


def test_a_matrix_that_is_known_everywhere_is_the_answer() -> None:
    truth = matrix(3, 5, seed=0)
    found = minimum_nuclear_norm_sensing(Measurements(unit_matrices(3, 5), truth.flatten()))

    torch.testing.assert_close(found.product, truth)
    assert found.nuclear_norm == pytest.approx(float(torch.linalg.matrix_norm(truth, "nuc")))


def test_values_of_zero_give_the_zero_matrix() -> None:
    found = minimum_nuclear_norm_sensing(gaussian_measurements(torch.zeros(4, 3), 5, seed=0))

    assert found.nuclear_norm == found.lower_bound == 0
    assert not found.product.any()


@pytest.mark.parametrize("shape", [(7, 5), (5, 7)])
def test_it_agrees_with_the_measurements_and_with_another_solver(shape: tuple[int, int]) -> None:
    cvxpy: Any = pytest.importorskip("cvxpy")
    measurements = gaussian_measurements(matrix(*shape, seed=1), 15, seed=2)
    found = minimum_nuclear_norm_sensing(measurements, tolerance=1e-8)

    unknown = cvxpy.Variable(shape)
    rows = measurements.matrices.flatten(1).numpy()
    agrees = rows @ cvxpy.vec(unknown, order="C") == measurements.values.numpy()
    least = cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(unknown)), [agrees]).solve(solver="SCS", eps=1e-9)

    torch.testing.assert_close(sensing_product(found.product, measurements), measurements.values)
    assert found.nuclear_norm == pytest.approx(least, rel=1e-6)
    assert found.lower_bound == pytest.approx(least, rel=1e-6)
    torch.testing.assert_close(found.product, torch.from_numpy(unknown.value), rtol=0, atol=1e-4)


def test_many_measurements_recover_a_matrix_of_low_rank() -> None:
    truth = matrix(12, 2, seed=0) @ matrix(2, 10, seed=1)
    found = minimum_nuclear_norm_sensing(gaussian_measurements(truth, 90, seed=2))

    torch.testing.assert_close(found.product, truth, rtol=0, atol=1e-4)


def test_too_few_iterations_leave_an_honest_gap() -> None:
    measurements = gaussian_measurements(matrix(8, 8, seed=0), 30, seed=1)
    rough, exact = (minimum_nuclear_norm_sensing(measurements, iterations=most) for most in (3, 10_000))

    assert rough.iterations == 3
    assert rough.lower_bound < exact.lower_bound <= exact.nuclear_norm < rough.nuclear_norm


@pytest.mark.parametrize("count", [2, 5])
def test_dependent_measurements_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"linearly independent, got {count} of shape \\(2, 2\\)"):
        minimum_nuclear_norm_sensing(Measurements(torch.ones(count, 2, 2), torch.zeros(count)))


@pytest.mark.parametrize(("option", "value"), [("tolerance", 0.0), ("iterations", 0)])
def test_options_out_of_range_are_refused(option: str, value: Any) -> None:
    measurements = gaussian_measurements(torch.ones(2, 2), 2, seed=0)
    with pytest.raises(ValueError, match=f"`{option}` must be .* got {value}"):
        minimum_nuclear_norm_sensing(measurements, **{option: value})
