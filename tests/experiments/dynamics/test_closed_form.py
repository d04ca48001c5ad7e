"""Closed forms of the paths of singular values compared with integrals and equations solved otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

from dmf_fast.experiments.dynamics.closed_form import (
    path_of_slopes,
    symmetric_matrix,
    time_of_value,
    value_at,
)

DEPTHS = [1, 2, 3, 4, 7]


def test_a_symmetric_matrix_has_the_eigenvalues_and_a_basis_of_its_seed() -> None:
    one, other = (symmetric_matrix(6, [3.0, -1.0], seed) for seed in (0, 1))
    for matrix in (one, other):
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-15)
        np.testing.assert_allclose(np.linalg.eigvalsh(matrix), [-1, 0, 0, 0, 0, 3], atol=1e-14)
    assert np.abs(one - other).max() > 0.1


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("value", [2e-6, 0.5, 1.9, 1.99999])
def test_times_are_those_of_the_integral_of_theorem_3(depth: int, value: float) -> None:
    """Over the logarithm, where the integrand is smooth: dt = dσ / (2 N σ^(2−2/N) (s − σ)) with s = 2."""

    def slowness(log_value: float) -> float:
        one = np.exp(log_value)
        return float(one / (2 * depth * one ** (2 - 2 / depth) * (2 - one)))

    integral = quad(slowness, np.log(1e-6), np.log(value), epsabs=0, epsrel=1e-11, limit=400)[0]
    assert time_of_value(value, 2.0, 1e-6, depth) == pytest.approx(integral, rel=1e-9)


@pytest.mark.parametrize("depth", DEPTHS)
def test_values_are_where_the_times_say(depth: int) -> None:
    times = np.linspace(0, float(time_of_value(1.5 * (1 - 1e-6), 1.5, 1e-3, depth)), 37)
    values = value_at(times, 1.5, 1e-3, depth)
    assert values[0] == pytest.approx(1e-3)
    assert (np.diff(values) > 0).all()
    np.testing.assert_allclose(time_of_value(values, 1.5, 1e-3, depth), times, rtol=1e-5, atol=1e-9)


def test_depths_1_and_2_are_an_exponential_and_a_logistic_curve() -> None:
    times = np.linspace(0, 3, 13)
    np.testing.assert_allclose(value_at(times, 2.0, 0.1, 1), 2 - 1.9 * np.exp(-2 * times), rtol=1e-6)
    np.testing.assert_allclose(value_at(times, 2.0, 0.1, 2), 2 / (1 + 19 * np.exp(-8 * times)), rtol=1e-6)


@pytest.mark.parametrize("depth", DEPTHS)
def test_paths_solve_theorem_3_for_slopes_of_any_course(depth: int) -> None:
    def slope(time: float) -> float:
        return float(np.cos(3 * time) + 0.2)

    times = np.linspace(0, 1, 9)
    solved = solve_ivp(
        lambda time, value: -depth * value ** (2 - 2 / depth) * slope(time),
        (0, 1), [0.7], t_eval=times, rtol=1e-11, atol=1e-12,
    )  # fmt: skip
    integral = np.sin(3 * times) / 3 + 0.2 * times
    np.testing.assert_allclose(path_of_slopes(0.7, integral, depth), solved.y[0], rtol=1e-8)


def test_paths_broadcast_and_go_to_infinity() -> None:
    paths = path_of_slopes([1.0, 4.0], [[0.0, 0.0], [-1.0, -1.0]], depth=4)
    # At depth 4, σ^(−1/2) falls by 2 for every −1 of the integral: 1 − 2 and ½ − 2 are below zero.
    assert paths[0].tolist() == [1.0, 4.0]
    assert np.isinf(paths[1]).all()
    assert path_of_slopes(1.0, 3.0, depth=1) == 0.0
