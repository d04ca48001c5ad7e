"""Trajectories of single singular values by theorem 3 of Arora et al. 2019, and matrices that follow them.

Theorem 3 of Arora, Cohen, Hu & Luo, "Implicit Regularization in Deep Matrix Factorization" (NeurIPS 2019),
says that ``dσ/dt = −N σ^(2−2/N) g`` with ``g = ⟨∇ℓ(W), u vᵀ⟩``. The integrals below are our own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

_POINTS = 20_000
_NEAREST = 1e-13

Numbers = NDArray[np.float64]


def symmetric_matrix(dim: int, eigenvalues: Sequence[float], seed: int) -> Numbers:
    """Return a random symmetric matrix, ``(dim, dim)``, with these eigenvalues; all others are zero.

    >>> round(float(symmetric_matrix(3, [2.0, 1.0], seed=0).trace()), 6)
    3.0
    """
    vectors = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, len(eigenvalues)))).Q
    return np.asarray(vectors * np.asarray(eigenvalues) @ vectors.T)


def path_of_slopes(start: ArrayLike, integral: ArrayLike, depth: int) -> Numbers:
    """Return the singular value at which ``∫ g dt`` equals ``integral``; the shapes must broadcast.

    That is ``σ(0) exp(−2 ∫ g)`` at depth 2 and ``(σ(0)^(−p) + (N − 2) ∫ g)^(−1/p)`` with ``p = 1 − 2/N`` at
    all others, ``σ(0) − ∫ g`` at depth 1; infinite once the trajectory has diverged.

    >>> path_of_slopes(1.0, [0.0, -np.log(2) / 2], depth=2)
    array([1., 2.])
    """
    values, moved = np.asarray(start, dtype=np.float64), np.asarray(integral, dtype=np.float64)
    if depth == 2:
        return np.asarray(values * np.exp(-2 * moved))
    power = 1 - 2 / depth
    with np.errstate(divide="ignore"):
        return np.asarray(np.maximum(values**-power + (depth - 2) * moved, 0.0) ** (-1 / power))


def time_of_value(value: ArrayLike, target: float, start: float, depth: int) -> Numbers:
    """Return when a singular value reaches ``value`` on its way from ``start`` to ``target``.

    All entries are observed, the loss is the sum of the squared errors, and the singular vectors are those of
    the observed matrix: ``g = 2 (σ − target)``. With Gauss's hypergeometric function,
    ``t = [F(σ) − F(start)] / 2N`` where ``F(σ) = σ^b / (b · target) · ₂F₁(1, b; 1 + b; σ / target)`` and
    ``b = 2/N − 1``; at depth 2, ``F(σ) = log(σ / (target − σ)) / target``.

    Args:
        value: numbers from ``start`` to below ``target``, of any shape.
        target: the singular value of the observed matrix.
        start: above 0, below ``target``.
        depth: ``N``.

    Example:
        >>> time_of_value([1.0, 1.5], target=2.0, start=1.0, depth=1) * 2 / np.log(2)
        array([0., 1.])

    """
    end, begin = (_antiderivative(np.asarray(one, dtype=np.float64), target, depth) for one in (value, start))
    return (end - begin) / (2 * depth)


def value_at(times: ArrayLike, target: float, start: float, depth: int) -> Numbers:
    """Return the singular value at given times: the inverse of `time_of_value`, to about six digits.

    >>> value_at([0.0, np.log(2) / 2], target=2.0, start=1.0, depth=1).round(6)
    array([1. , 1.5])
    """
    first, last = (np.log(share / (1 - share)) for share in (start / target, 1 - _NEAREST))
    log_odds = np.linspace(first, last, _POINTS)
    shares = 1 / (1 + np.exp(-log_odds))
    reached = time_of_value(target * shares, target, start, depth)
    return target / (1 + np.exp(-np.interp(np.asarray(times, dtype=np.float64), reached, log_odds)))


def _antiderivative(values: Numbers, target: float, depth: int) -> Numbers:
    from scipy.special import hyp2f1  # here, as it is slow to import

    if depth == 2:
        return np.asarray(np.log(values / (target - values)) / target)
    b = 2 / depth - 1
    return np.asarray(values**b / (b * target) * hyp2f1(1, b, 1 + b, values / target))
