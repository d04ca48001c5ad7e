"""Data terms: convex functions of the observed entries that are added to the nuclear norm, and their duals.

Both problems are ``min ‖W‖_* + φ(W_Ω)``. By Fenchel duality the minimum equals the maximum of ``−φ*(−y)``
over all ``y`` on Ω whose sparse matrix has an operator norm of at most 1, and each such ``y`` gives a lower
bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class DataTerm(Protocol):
    """A convex function φ of the observed entries, all tensors ``(nnz,)`` and float64."""

    def proximal(self, entries: Tensor, step: float) -> Tensor:
        """Return the minimizer of ``step · φ(x) + ½ ‖x − entries‖²``."""

    def value(self, entries: Tensor) -> float:
        """Return φ; 0 where it is infinite, since `violation` measures the distance there."""

    def violation(self, entries: Tensor) -> Tensor:
        """Return the signed distance of each entry from the set where φ is finite."""

    @property
    def size(self) -> float:
        """Scale of violations, above 0."""

    def dual_bound(self, dual: Tensor, operator_norm: float) -> float:
        """Return the largest ``−φ*(−t · dual)`` over ``0 ≤ t ≤ 1 / operator_norm``."""


@dataclass(frozen=True, eq=False)
class Within:
    """``|x − values| ≤ epsilon``: φ is 0 there and infinite elsewhere.

    Iterations aim at ``epsilon − margin``, so that entries that approach it from outside soon are within
    ``epsilon``.
    """

    values: Tensor
    epsilon: float
    margin: float = 0.0

    def proximal(self, entries: Tensor, step: float) -> Tensor:
        """Return the nearest entries within ``epsilon − margin`` of the values."""
        aim = self.epsilon - self.margin
        return self.values + (entries - self.values).clamp(-aim, aim)

    @property
    def size(self) -> float:
        """``epsilon``; if it is 0, the root mean square of the values, or 1 if they are all 0."""
        return self.epsilon or root_mean_square(self.values) or 1.0

    def value(self, entries: Tensor) -> float:
        """Return 0."""
        return 0.0

    def violation(self, entries: Tensor) -> Tensor:
        """Return the signed distance of each entry from the interval around its value."""
        residual = entries - self.values
        return residual - residual.clamp(-self.epsilon, self.epsilon)

    def dual_bound(self, dual: Tensor, operator_norm: float) -> float:
        """Return ``⟨values, y⟩ − epsilon ‖y‖₁`` at the largest t, or 0 if it decreases with t."""
        bound = float(self.values @ dual - self.epsilon * dual.abs().sum())
        return max(0.0, bound / operator_norm) if operator_norm > 0 else 0.0


def root_mean_square(numbers: Tensor) -> float:
    """Return the root of the mean of the squares.

    >>> import torch
    >>> root_mean_square(torch.tensor([3.0, -3.0]))
    3.0
    """
    return float(numbers.square().mean().sqrt())


@dataclass(frozen=True, eq=False)
class SquaredError:
    """``Σ weights (x − values)² / regularization``."""

    values: Tensor
    weights: Tensor
    regularization: float

    def proximal(self, entries: Tensor, step: float) -> Tensor:
        """Return the weighted mean of entries and values."""
        pull = 2 * step / self.regularization * self.weights
        return (entries + pull * self.values) / (1 + pull)

    @property
    def size(self) -> float:
        """1; there are no violations."""
        return 1.0

    def value(self, entries: Tensor) -> float:
        """Return φ."""
        residual = entries - self.values
        return float(self.weights @ residual.square()) / self.regularization

    def violation(self, entries: Tensor) -> Tensor:
        """Return zeros, since φ is finite everywhere."""
        return entries.new_zeros(entries.shape)

    def dual_bound(self, dual: Tensor, operator_norm: float) -> float:
        """Return the maximum over t of ``t ⟨values, y⟩ − t² (regularization / 4) Σ y² / weights``.

        It is 0 if the dual of an entry of weight 0 is nonzero.
        """
        seen = self.weights > 0
        if dual[~seen].any():  # such an entry can go to infinity at no cost
            return 0.0
        slope = float(self.values @ dual)
        curvature = self.regularization / 2 * float((dual[seen].square() / self.weights[seen]).sum())
        most = 1 / operator_norm if operator_norm > 0 else math.inf
        if slope <= 0 or curvature == 0:
            return 0.0
        t = min(slope / curvature, most)
        return t * slope - t * t * curvature / 2
