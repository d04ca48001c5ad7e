"""Errors of predicted ratings, stored as sums so that parts of a test set can be combined exactly."""

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
    """Sums of errors over test ratings, which give RMSE and MAE; `+` combines disjoint parts.

    Batches, folds and devices are combined by adding their sums, since the mean of their RMSEs differs from
    the RMSE of all ratings.

    Attributes:
        count: number of ratings.
        weight: sum of their weights; ``count`` without weights.
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
        """Return the errors of ``predictions`` for ``values``, computed in float64.

        Args:
            predictions: ``(len,)`` finite numbers.
            values: ``(len,)`` finite numbers.
            weights: ``(len,)`` finite numbers ≥ 0, or None for weights of 1.

        Raises:
            TypeError: an argument does not hold real numbers.
            ValueError: lengths differ, a number is not finite or exceeds 1e140 in magnitude, or a weight is
                negative.

        Example:
            >>> RatingErrors.of([2.0, 4.0], [1.0, 4.0]).rmse
            0.7071067811865476

        """
        true = finite_numbers("values", values, len(values))
        distance = np.abs(finite_numbers("predictions", predictions, len(true)) - true)
        # No dot products: the order of summation of BLAS depends on its threads.
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
        """Root mean squared error; None without ratings of positive weight."""
        return math.sqrt(self.squared / self.weight) if self.weight > 0 else None

    @property
    def mae(self) -> float | None:
        """Mean absolute error; None without ratings of positive weight."""
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
