"""What ties a matrix to its observed entries: a convex term added to the nuclear norm, and its dual.

Both problems are ``min ‖W‖_* + φ(W_Ω)``. By Fenchel's duality the minimum is the largest value of
``−φ*(−y)`` over all ``y`` on Ω whose sparse matrix has an operator norm of at most 1; any such ``y`` bounds
it from below.
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
        """Return φ, where it is finite; 0 beyond, where `violation` tells how far."""

    def violation(self, entries: Tensor) -> Tensor:
        """Return by how much each entry leaves the set where φ is finite, with its sign."""

    @property
    def size(self) -> float:
        """What a violation is compared with, above 0."""

    def dual_bound(self, dual: Tensor, operator_norm: float) -> float:
        """Return the largest ``−φ*(−t · dual)`` over ``0 ≤ t ≤ 1 / operator_norm``."""


@dataclass(frozen=True, eq=False)
class Within:
    """``|x − values| ≤ epsilon``: φ is 0 there and infinite elsewhere.

    Iterations aim at ``epsilon − margin``: what they approach from outside is then soon within ``epsilon``.
    """

    values: Tensor
    epsilon: float
    margin: float = 0.0

    def proximal(self, entries: Tensor, step: float) -> Tensor:
        """Return the nearest entries that are allowed, less the margin."""
        aim = self.epsilon - self.margin
        return self.values + (entries - self.values).clamp(-aim, aim)

    @property
    def size(self) -> float:
        """``epsilon``; where it is 0, the root mean square of the values, or 1 where they are all 0."""
        return self.epsilon or root_mean_square(self.values) or 1.0

    def value(self, entries: Tensor) -> float:
        """Return 0."""
        return 0.0

    def violation(self, entries: Tensor) -> Tensor:
        """Return the distance to the interval around each value, with its sign."""
        residual = entries - self.values
        return residual - residual.clamp(-self.epsilon, self.epsilon)

    def dual_bound(self, dual: Tensor, operator_norm: float) -> float:
        """Return ``⟨values, y⟩ − epsilon ‖y‖₁``, which grows with t, or 0 where it would fall."""
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
        """1: nothing is violated."""
        return 1.0

    def value(self, entries: Tensor) -> float:
        """Return φ."""
        residual = entries - self.values
        return float(self.weights @ residual.square()) / self.regularization

    def violation(self, entries: Tensor) -> Tensor:
        """Return zeros: every entry is allowed."""
        return entries.new_zeros(entries.shape)

    def dual_bound(self, dual: Tensor, operator_norm: float) -> float:
        """Return the top of the parabola ``t ⟨values, y⟩ − t² (regularization / 4) Σ y² / weights``.

        It is 0 where the dual of an entry without weight is not 0.
        """
        seen = self.weights > 0
        if dual[~seen].any():  # such an entry may go to infinity at no cost
            return 0.0
        slope = float(self.values @ dual)
        curvature = self.regularization / 2 * float((dual[seen].square() / self.weights[seen]).sum())
        most = 1 / operator_norm if operator_norm > 0 else math.inf
        if slope <= 0 or curvature == 0:
            return 0.0
        t = min(slope / curvature, most)
        return t * slope - t * t * curvature / 2
