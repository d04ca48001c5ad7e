"""Nuclear norm minimization subject to linear measurements."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_fast.checks import real_number, whole_number
from dmf_fast.convex.thresholding import thresholded_by_svd
from dmf_fast.sensing import Measurements

_ITERATIONS_A_LOOK = 10
_RELAXATION = 1.6
# Relative to the largest singular value of the first matrix; measured: 0.3 takes the fewest iterations.
_THRESHOLD = 0.3


@dataclass(frozen=True, eq=False)
class SensedMatrix:
    """The solution of `minimum_nuclear_norm_sensing`.

    Attributes:
        product: ``(m, n)``, float64; satisfies the measurements to rounding.
        nuclear_norm: of ``product``.
        lower_bound: lower bound of the nuclear norm of all matrices that satisfy the measurements.
        iterations: number of iterations made.

    """

    product: Tensor
    nuclear_norm: float
    lower_bound: float
    iterations: int


@torch.no_grad()
def minimum_nuclear_norm_sensing(
    measurements: Measurements, *, tolerance: float = 1e-6, iterations: int = 10_000
) -> SensedMatrix:
    """Minimize ``‖W‖_*`` over all ``W`` with ``⟨X_k, W⟩ = y_k``.

    This is the convex relaxation of rank minimization: Recht, Fazel & Parrilo, "Guaranteed Minimum-Rank
    Solutions of Linear Matrix Equations via Nuclear Norm Minimization" (SIAM Review 2010). Arora, Cohen, Hu &
    Luo (NeurIPS 2019), section 2, compare deep matrix factorization with it.

    It is solved in float64 by Douglas–Rachford splitting (Eckstein & Bertsekas, 1992), which alternates
    between projection onto the matrices that satisfy the measurements and singular value thresholding. It
    stops when the nuclear norm is certified to be within ``tolerance`` of the minimum, by a
    ``Y = Σ_k λ_k X_k`` of operator norm 1: ``‖W‖_* ≥ ⟨Y, W⟩ = ⟨λ, y⟩`` for all such ``W``. An iteration takes
    an SVD of an ``(m, n)`` matrix and two products of a ``(k, m·n)`` matrix and a vector.

    Args:
        measurements: ``X_k``, linearly independent, and ``y_k``.
        tolerance: maximum of ``(nuclear_norm - lower_bound) / nuclear_norm``, above 0.
        iterations: maximum number of iterations, at least 1; if it is reached, see ``lower_bound``.

    Raises:
        ValueError: the measurement matrices are linearly dependent, or an option is out of range.
        TypeError: an option is not a number.

    Example:
        >>> corner = Measurements(torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]), torch.tensor([3.0]))
        >>> round(minimum_nuclear_norm_sensing(corner).nuclear_norm, 6)
        3.0

    """
    tolerance = real_number("tolerance", tolerance, above=0)
    iterations = whole_number("iterations", iterations, least=1)
    feasible_set = _FeasibleSet(measurements)
    point = feasible_set.smallest()
    # Any positive number will do if the smallest matrix is zero.
    threshold = _THRESHOLD * float(torch.linalg.matrix_norm(point, 2)) or 1.0
    lower_bound = 0.0
    for iteration in range(1, iterations + 1):
        feasible = feasible_set.nearest(point)
        reflected = 2 * feasible - point
        thresholded = thresholded_by_svd(reflected, threshold).dense()
        if iteration % _ITERATIONS_A_LOOK == 0 or iteration == iterations:
            lower_bound = max(lower_bound, feasible_set.lower_bound(reflected - thresholded))
            nuclear_norm = float(torch.linalg.matrix_norm(feasible, "nuc"))
            if nuclear_norm - lower_bound <= tolerance * nuclear_norm:
                break
        point += _RELAXATION * (thresholded - feasible)
    return SensedMatrix(feasible, nuclear_norm, lower_bound, iteration)


class _FeasibleSet:
    """The matrices that satisfy the measurements, by an orthonormal basis of the span of the ``X_k``."""

    def __init__(self, measurements: Measurements) -> None:
        self._shape = measurements.shape
        matrices = measurements.matrices.double().flatten(1)
        count, numbers = matrices.shape
        self._basis, triangle = torch.linalg.qr(matrices.T)
        diagonal = triangle.diagonal().abs()
        if count > numbers or diagonal.min() <= numbers * torch.finfo(torch.float64).eps * diagonal.max():
            raise ValueError(
                f"`measurements.matrices` must be linearly independent, got {count} of shape "
                f"{self._shape} that are not; remove those that depend on others"
            )
        values = measurements.values.double()[:, None]
        self._coordinates = torch.linalg.solve_triangular(triangle.T, values, upper=False)[:, 0]

    def smallest(self) -> Tensor:
        """Return the matrix of minimum Frobenius norm."""
        return self._matrix(self._coordinates)

    def nearest(self, matrix: Tensor) -> Tensor:
        """Return the projection of ``matrix``."""
        return matrix + self._matrix(self._coordinates - matrix.flatten() @ self._basis)

    def lower_bound(self, direction: Tensor) -> float:
        """Return a lower bound of the nuclear norms, from the projection of ``direction`` onto the span."""
        coordinates = direction.flatten() @ self._basis
        norm = float(torch.linalg.matrix_norm(self._matrix(coordinates), 2))
        return float(self._coordinates @ coordinates) / norm if norm > 0 else 0.0

    def _matrix(self, coordinates: Tensor) -> Tensor:
        matrix: Tensor = (self._basis @ coordinates).view(self._shape)
        return matrix
