"""Errors of predicted ratings as sums, which parts of a test add up to exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dmf_fast.evaluation.numbers import finite_numbers, finite_weights
from dmf_fast.sharding import RowSharding


@dataclass(frozen=True)
class RatingErrors:
    """Sums over some test ratings, from which their RMSE and MAE follow; `+` unites disjoint parts.

    Batches, folds and devices are united by adding their sums: the mean of their RMSEs would be another
    number wherever the parts differ in size or in error.

    Attributes:
        count: how many ratings.
        weight: the sum of their weights; ``count`` where they have none.
        squared: the weighted sum of squared errors.
        absolute: the weighted sum of absolute errors.

    Example:
        >>> parts = [RatingErrors.of([3.0], [3.0]), RatingErrors.of([1.0, 1.0], [4.0, 4.0])]
        >>> sum(parts, start=RatingErrors()).mae
        2.0

    """

    count: int = 0
    weight: float = 0.0
    squared: float = 0.0
    absolute: float = 0.0

    @classmethod
    def of(cls, predictions: Any, values: Any, weights: Any = None) -> RatingErrors:
        """Return the errors of ``predictions`` for ``values``, both ``(len,)`` and finite.

        Args:
            predictions: ``(len,)`` numbers, used in float64.
            values: ``(len,)`` numbers, used in float64.
            weights: ``(len,)`` numbers ≥ 0, or None for weights of 1.

        Raises:
            TypeError: what must be a number is not.
            ValueError: lengths disagree, a number is not finite or beyond 1e140, or a weight is negative.

        Example:
            >>> RatingErrors.of([2.0, 4.0], [1.0, 4.0]).rmse
            0.7071067811865476

        """
        true = finite_numbers("values", values, len(values))
        distance = np.abs(finite_numbers("predictions", predictions, len(true)) - true)
        # No products of vectors: BLAS adds up in an order that depends on its threads.
        if weights is None:
            return cls(len(true), float(len(true)), float((distance**2).sum()), float(distance.sum()))
        weight = finite_weights(weights, len(true))
        squared, absolute = float((weight * distance**2).sum()), float((weight * distance).sum())
        return cls(len(true), float(weight.sum()), squared, absolute)

    def __add__(self, other: RatingErrors) -> RatingErrors:
        if not isinstance(other, RatingErrors):
            return NotImplemented
        return RatingErrors(
            self.count + other.count,
            self.weight + other.weight,
            self.squared + other.squared,
            self.absolute + other.absolute,
        )

    def of_all(self, sharding: RowSharding) -> RatingErrors:
        """Return the sums over the processes that share the rows."""
        if sharding.is_whole:
            return self
        sums = torch.tensor([self.count, self.weight, self.squared, self.absolute], dtype=torch.float64)
        sharding.add_up([sums])
        count, *others = sums.tolist()
        return RatingErrors(int(count), *others)

    @property
    def rmse(self) -> float | None:
        """Root of the mean squared error; None where nothing was measured."""
        return math.sqrt(self.squared / self.weight) if self.weight > 0 else None

    @property
    def mae(self) -> float | None:
        """Mean absolute error; None where nothing was measured."""
        return self.absolute / self.weight if self.weight > 0 else None

    def as_dict(self) -> dict[str, float | int | None]:
        """Return the sums with ``rmse`` and ``mae``, for JSON."""
        return {
            "count": self.count,
            "weight": self.weight,
            "sum_of_squared_errors": self.squared,
            "sum_of_absolute_errors": self.absolute,
            "rmse": self.rmse,
            "mae": self.mae,
        }
