"""Expected results of the solvers, by NumPy and by another solver, independent of how they work."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from dmf_fast import Observations

Matrix = NDArray[np.float64]


def on_pattern(observations: Observations, numbers: Tensor) -> Matrix:
    """Return the matrix that holds ``numbers`` at the observed places, and zeros."""
    matrix = np.zeros(observations.shape)
    matrix[observations.rows.numpy(), observations.columns.numpy()] = numbers.double().numpy()
    return matrix


def nuclear_norm(matrix: Matrix) -> float:
    return float(np.linalg.svd(matrix, compute_uv=False).sum())


def operator_norm(matrix: Matrix) -> float:
    return float(np.linalg.svd(matrix, compute_uv=False).max(initial=0))


def residuals(matrix: Matrix, observations: Observations) -> NDArray[np.float64]:
    """Return ``W_ij − b_ij``, entry by entry."""
    entries = matrix[observations.rows.numpy(), observations.columns.numpy()]
    difference: NDArray[np.float64] = entries - observations.values.double().numpy()
    return difference


def weights(observations: Observations) -> NDArray[np.float64]:
    given = observations.weights
    return np.ones(observations.nnz) if given is None else given.double().numpy()


def regression_objective(matrix: Matrix, observations: Observations, regularization: float) -> float:
    squares = weights(observations) @ residuals(matrix, observations) ** 2
    return float(squares) + regularization * nuclear_norm(matrix)


def constrained_bound(dual: Tensor, observations: Observations, epsilon: float) -> float:
    """Return what the dual proves: ``⟨Y, W⟩ ≤ ‖Y‖ ‖W‖_*``, and ``W`` is within epsilon of the values."""
    least_product = float(observations.values.double() @ dual - epsilon * dual.abs().sum())
    norm = operator_norm(on_pattern(observations, dual))
    return max(0.0, least_product / norm) if norm > 0 else 0.0


def regression_bound(dual: Tensor, observations: Observations, regularization: float) -> float:
    """Return what the dual proves: the least over all entries of squares and ``regularization t ⟨Y, W⟩``.

    Entry by entry the least of ``w (x − b)² + c x`` is ``c b − c² / 4w``; the best ``t`` of a fine grid.
    """
    seen = weights(observations) > 0
    assert not dual.numpy()[~seen].any()
    norm = operator_norm(on_pattern(observations, dual))
    if norm == 0:
        return 0.0
    seen_dual, values = dual.numpy()[seen], observations.values.double().numpy()[seen]
    linear, quadratic = seen_dual @ values, (seen_dual**2 / weights(observations)[seen]).sum() / 4
    slopes = regularization * np.linspace(0, 1 / norm, 100_001)
    return float((slopes * linear - slopes**2 * quadratic).max())


def least_nuclear_norm(observations: Observations, epsilon: float, *, eps: float = 1e-8) -> float:
    """Return the least ``‖W‖_*`` with every entry within epsilon, by cvxpy and SCS."""
    cvxpy, unknown, entries = _unknown(observations)
    values = observations.values.double().numpy()
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(unknown)), [cvxpy.abs(entries - values) <= epsilon])
    return float(problem.solve(solver="SCS", eps=eps, max_iters=100_000))


def least_regression_objective(
    observations: Observations, regularization: float, *, eps: float = 1e-8
) -> float:
    """Return the least ``Σ w (W − b)² + regularization ‖W‖_*``, by cvxpy and SCS."""
    cvxpy, unknown, entries = _unknown(observations)
    values = observations.values.double().numpy()
    squares = cvxpy.sum_squares(cvxpy.multiply(np.sqrt(weights(observations)), entries - values))
    objective = cvxpy.Minimize(squares + regularization * cvxpy.normNuc(unknown))
    return float(cvxpy.Problem(objective).solve(solver="SCS", eps=eps, max_iters=100_000))


def _unknown(observations: Observations) -> tuple[Any, Any, Any]:
    cvxpy: Any = pytest.importorskip("cvxpy")
    pytest.importorskip("scs")
    unknown = cvxpy.Variable(observations.shape)
    return cvxpy, unknown, unknown[observations.rows.numpy(), observations.columns.numpy()]
