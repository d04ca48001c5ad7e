"""The largest eigenvalue of a symmetric operator by the Lanczos method.

SciPy's `eigsh` returns nothing if it does not converge, but the certificate needs a bound even then. It also
makes at least 22 products, where 2 to 15 are enough (measured on the spectra of tests/convex/test_lanczos.py:
1.1 to 20 times as many), and each product passes over all entries twice.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_MOST_STEPS = 200


def largest_eigenvalue(times: Callable[[Tensor], Tensor], start: Tensor, precision: float) -> float:
    """Return an upper estimate of the largest eigenvalue of a positive semidefinite operator.

    It is the sum of a Ritz value and its residual norm. An eigenvalue lies within the residual of the Ritz
    value; it is the largest one unless ``start`` is nearly orthogonal to its eigenvector. The residual is
    at most ``precision`` times the Ritz value, or what is left after 200 steps. Lanczos (1950), with full
    reorthogonalization; Parlett, "The Symmetric Eigenvalue Problem" (1998), chapters 4 and 13.

    Args:
        times: applies the operator to a vector ``(n,)``.
        start: ``(n,)``, float64, random.
        precision: relative, above 0.

    >>> ones = torch.ones(3, dtype=torch.float64)
    >>> scaled = torch.tensor([1.0, 4.0, 2.0], dtype=torch.float64)
    >>> round(largest_eigenvalue(lambda vector: vector * scaled, ones, 1e-6), 9)
    4.0

    """
    steps = min(_MOST_STEPS, len(start))
    basis = start.new_empty(steps, len(start))
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    vector = start / torch.linalg.vector_norm(start)
    for step in range(steps):
        basis[step] = vector
        image = times(vector)
        diagonal.append(float(vector @ image))
        for _ in range(2):  # a single pass leaves rounding errors, which the next steps would amplify
            image = image - basis[: step + 1].T @ (basis[: step + 1] @ image)
        length = float(torch.linalg.vector_norm(image))
        ritz_value, last_coordinate = _top(diagonal, off_diagonal)
        residual = length * abs(last_coordinate)
        if residual <= precision * ritz_value:
            break
        off_diagonal.append(length)
        vector = image / length
    return ritz_value + residual


def _top(diagonal: list[float], off_diagonal: list[float]) -> tuple[float, float]:
    """Return the largest eigenvalue of a tridiagonal matrix, and the last component of its eigenvector."""
    from scipy.linalg import eigh_tridiagonal  # here, since it is slow to import

    last = len(diagonal) - 1
    values, vectors = eigh_tridiagonal(diagonal, off_diagonal, select="i", select_range=(last, last))
    return float(values[0]), float(vectors[last, 0])
