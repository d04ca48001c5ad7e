"""Sensing with positive semidefinite measurements, and the limits of gradient flow from near the identity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmf_fast.dynamics import end_to_end_velocity
from dmf_fast.sensing import Measurements, sensing_product

SIZE, MEASURED = 8, 3
LOSS_THRESHOLD = 1e-10
_LONGEST = 1e12


@dataclass(frozen=True)
class PositiveSensing:
    """Positive semidefinite measurements of a positive semidefinite matrix.

    Attributes:
        eigenvalues: uniform between 0 and 1, of every ``X_k``, ``(MEASURED, SIZE)``.
        measurements: ``X_k`` and ``y_k``, float64. Commuting ones are diagonal: their common basis is
            that of the coordinates, as a start from the identity looks the same in every basis.

    """

    eigenvalues: NDArray[np.float64]
    measurements: Measurements

    @staticmethod
    def draw(seed: int, *, commuting: bool) -> PositiveSensing:
        """Draw the eigenvalues and, for measurements that do not commute, a random basis for each ``X_k``."""
        random = np.random.default_rng(seed)
        eigenvalues, truth = random.random((MEASURED, SIZE)), random.random(SIZE)
        bases = np.broadcast_to(np.eye(SIZE), (MEASURED, SIZE, SIZE))
        if not commuting:
            bases = np.linalg.qr(random.standard_normal(bases.shape)).Q
        matrices = torch.from_numpy(bases * eigenvalues[:, None] @ bases.transpose(0, 2, 1))
        values = torch.einsum("kii,i->k", matrices, torch.from_numpy(truth))
        return PositiveSensing(eigenvalues, Measurements(matrices, values))


def least_trace(problem: PositiveSensing) -> NDArray[np.float64]:
    """Return the eigenvalues, ``(SIZE,)``, of a positive semidefinite matrix of least trace that fits.

    For commuting measurements only: they depend only on the diagonal ``λ``, and the nuclear norm of a
    positive semidefinite matrix is ``Σ λ``. This is a linear program: minimize ``Σ λ`` over all ``λ ≥ 0``
    that agree with the measurements.

    Raises a `RuntimeError` if it cannot be solved.

    >>> int((least_trace(PositiveSensing.draw(0, commuting=True)) > 1e-9).sum()) <= MEASURED
    True
    """
    from scipy.optimize import linprog  # here, as it is slow to import

    solved = linprog(np.ones(SIZE), A_eq=problem.eigenvalues, b_eq=problem.measurements.values.numpy())
    if not solved.success:
        raise RuntimeError(f"the linear program of least trace could not be solved: {solved.message}")
    eigenvalues: NDArray[np.float64] = solved.x
    return eigenvalues


def diagonal_flow(problem: PositiveSensing, depth: int, scale: float) -> NDArray[np.float64]:
    """Return the eigenvalues, ``(SIZE,)``, at the end of gradient flow from factors ``scale · I``.

    For commuting measurements only, where all factors stay equal and diagonal, ``W_j = diag(w)`` with
    ``dw/dt = −w^(N−1) g``, where ``g`` is the diagonal of the gradient in the product ``diag(w^N)``.

    Raises a `RuntimeError` if the mean loss does not reach `LOSS_THRESHOLD`.

    >>> problem = PositiveSensing.draw(0, commuting=True)
    >>> excess = diagonal_flow(problem, 3, 1e-3).sum() / least_trace(problem).sum() - 1
    >>> bool(abs(excess) < 1e-4)
    True
    """
    seen, values = problem.eigenvalues, problem.measurements.values.numpy()

    def residual(state: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = seen @ state**depth - values
        return found

    def velocity(state: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = -(state ** (depth - 1)) * (residual(state) @ seen) * (2 / len(values))
        return found

    end: NDArray[np.float64] = _fitted(np.full(SIZE, scale), velocity, residual, f"depth {depth}") ** depth
    return end


def product_flow(measurements: Measurements, depth: int, start: Tensor) -> Tensor:
    """Return the end of gradient flow from balanced factors of the product ``start``, ``(m, n)``.

    The velocity of such a product is a function of the product alone, see
    `dmf_fast.dynamics.end_to_end_velocity`.

    Raises a `RuntimeError` if the mean loss does not reach `LOSS_THRESHOLD`.

    >>> problem = PositiveSensing.draw(0, commuting=False)
    >>> product_flow(problem.measurements, 2, 0.1 * near_identity(0.0, seed=0)).shape
    torch.Size([8, 8])
    """

    def product(state: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(state).view(measurements.shape)

    def residual(state: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = (
            sensing_product(product(state), measurements) - measurements.values
        ).numpy()
        return found

    def velocity(state: NDArray[np.float64]) -> NDArray[np.float64]:
        weights = torch.from_numpy(residual(state)) * (2 / len(measurements))
        gradient = torch.tensordot(weights, measurements.matrices, dims=1)
        found: NDArray[np.float64] = end_to_end_velocity(product(state), gradient, depth).numpy().ravel()
        return found

    return product(_fitted(start.numpy().ravel(), velocity, residual, f"depth {depth}"))


def near_identity(off_diagonal: float, seed: int) -> Tensor:
    """Return ``I + S``, ``(SIZE, SIZE)``: S symmetric without a diagonal, of norm ``off_diagonal`` below 1.

    >>> float(torch.linalg.eigvalsh(near_identity(0.1, seed=0)).sub(1).abs().max().round(decimals=6))
    0.1
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64, device="cpu").tril(-1)
    symmetric = drawn + drawn.T
    identity = torch.eye(SIZE, dtype=torch.float64, device="cpu")
    return identity + symmetric * (off_diagonal / float(torch.linalg.matrix_norm(symmetric, 2)))


def spread_off_diagonal(eigenvalues: Tensor, share: float) -> Tensor:
    """Return ``diag(λ)``, ``(k, k)``, with ``share · √(λ_1 λ_2)`` at the two places between λ_1 and λ_2.

    Diagonal measurements do not see them. Up to a share of 1 the matrix stays positive
    semidefinite, so that its nuclear norm, the trace, is the same, while its two largest eigenvalues move
    apart: as x^p is concave, ``Σ σ^p`` falls for every p between 0 and 1.

    Args:
        eigenvalues: ``(k,)``, descending, at least 0.
        share: from 0 to 1.

    >>> spread_off_diagonal(torch.tensor([4.0, 1.0]), 1.0)
    tensor([[4., 2.],
            [2., 1.]])

    """
    matrix = torch.diag(eigenvalues)
    matrix[0, 1] = matrix[1, 0] = share * (eigenvalues[0] * eigenvalues[1]).sqrt()
    return matrix


def _fitted(
    start: NDArray[np.float64],
    velocity: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    residual: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    name: str,
) -> NDArray[np.float64]:
    """Return the state in which the mean squared residual reaches `LOSS_THRESHOLD`."""
    from scipy.integrate import solve_ivp  # here, as it is slow to import

    def above_threshold(_: float, state: NDArray[np.float64]) -> float:
        return float(np.log(np.mean(residual(state) ** 2) / LOSS_THRESHOLD))

    above_threshold.terminal = True  # type: ignore[attr-defined]
    solution = solve_ivp(
        lambda _, state: velocity(state),
        (0, _LONGEST),
        start,
        method="LSODA",
        rtol=1e-8,
        atol=1e-5 * np.abs(start).max(),
        events=above_threshold,
    )
    if not solution.t_events[0].size:
        raise RuntimeError(f"gradient flow at {name} did not fit the measurements: {solution.message}")
    end: NDArray[np.float64] = solution.y_events[0][0].copy()
    return end
