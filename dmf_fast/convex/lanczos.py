"""The largest eigenvalue of a symmetric operator by Lanczos' method.

Not SciPy's `eigsh`: where it does not converge within its iterations it returns nothing, and the certificate
needs a bound then too; it forms at least 22 products where 2 to 15 are enough (measured on the spectra of
tests/convex/test_lanczos.py: 1.1 to 20 times as many), and a product passes over all entries twice.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_MOST_STEPS = 200


def largest_eigenvalue(times: Callable[[Tensor], Tensor], start: Tensor, precision: float) -> float:
    """Return the largest eigenvalue of a positive semidefinite operator, or somewhat more, never less.

    What is returned is a Ritz value and its residual: no farther from it is an eigenvalue, and that is the
    largest one but for starts that hardly hold its vector. The residual is at most ``precision`` of it, or
    what is left after 200 steps. Lanczos (1950), with full reorthogonalisation; Parlett, "The Symmetric
    Eigenvalue Problem" (1998), chapters 4 and 13.

    Args:
        times: the operator on vectors such as ``start``.
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
    beside: list[float] = []
    vector = start / torch.linalg.vector_norm(start)
    for step in range(steps):
        basis[step] = vector
        image = times(vector)
        diagonal.append(float(vector @ image))
        for _ in range(2):  # once leaves rounding errors, which the next steps would enlarge
            image = image - basis[: step + 1].T @ (basis[: step + 1] @ image)
        length = float(torch.linalg.vector_norm(image))
        ritz_value, last_coordinate = _top(diagonal, beside)
        residual = length * abs(last_coordinate)
        if residual <= precision * ritz_value:
            break
        beside.append(length)
        vector = image / length
    return ritz_value + residual


def _top(diagonal: list[float], beside: list[float]) -> tuple[float, float]:
    """Return the largest eigenvalue of a tridiagonal matrix, and the last number of its eigenvector."""
    from scipy.linalg import eigh_tridiagonal  # here, as it is slow to import

    last = len(diagonal) - 1
    values, vectors = eigh_tridiagonal(diagonal, beside, select="i", select_range=(last, last))
    return float(values[0]), float(vectors[last, 0])
