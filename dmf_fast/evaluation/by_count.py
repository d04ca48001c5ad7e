"""Errors by the number of training ratings of a row or a column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dmf_fast.evaluation.errors import RatingErrors
from dmf_fast.evaluation.numbers import Floats, Integers
from dmf_fast.sharding import WHOLE, RowSharding

# 0, 1, 2-4, 5-9, 10-19, 20-49, …
_FEWEST = np.array([0, *(step * 10**power for power in range(12) for step in (1, 2, 5))])


@dataclass(frozen=True)
class CountBin:
    """The test ratings of rows, or of columns, with ``fewest`` to ``most`` training ratings."""

    fewest: int
    most: int
    errors: RatingErrors

    def as_dict(self) -> dict[str, Any]:
        """Return the bounds and the errors, for JSON."""
        return {"fewest": self.fewest, "most": self.most, **self.errors.as_dict()}


def count_bins(counts: Integers) -> tuple[Integers, list[tuple[int, int]]]:
    """Return the bin of each count, and the smallest and largest count of each bin.

    Args:
        counts: ``(len,)`` integers ≥ 0.

    Example:
        >>> bins, bounds = count_bins(np.array([0, 4, 12]))
        >>> [bounds[place] for place in bins]
        [(0, 0), (2, 4), (10, 19)]

    """
    bounds = [*zip(_FEWEST.tolist(), (_FEWEST[1:] - 1).tolist(), strict=False)]
    return np.searchsorted(_FEWEST[:-1], counts, side="right") - 1, bounds


def errors_by_count(
    counts: Integers,
    predictions: Floats,
    values: Floats,
    weights: Floats | None = None,
    sharding: RowSharding = WHOLE,
) -> tuple[CountBin, ...]:
    """Return the errors in bins of increasing ``counts``: 0, 1, 2 to 4, 5 to 9, 10 to 19 and so on.

    Bins without test ratings are omitted.

    Args:
        counts: ``(len,)`` integers ≥ 0, the number of training ratings of the row or the column.
        predictions: ``(len,)``, finite.
        values: ``(len,)``, finite.
        weights: ``(len,)`` numbers ≥ 0, or None for weights of 1.
        sharding: if processes share the ratings, their sharding; the result covers all of them.

    Example:
        >>> bins = errors_by_count(np.array([0, 3, 4]), np.array([1.0, 2.0, 4.0]), np.array([3.0, 2.0, 2.0]))
        >>> [(part.fewest, part.most, part.errors.count, part.errors.mae) for part in bins]
        [(0, 0, 1, 2.0), (2, 4, 2, 1.0)]

    """
    bin_of, bounds = count_bins(counts)
    distance = np.abs(predictions - values)
    weight = np.ones_like(distance) if weights is None else weights
    numbers = np.bincount(bin_of, minlength=len(bounds))
    sums = [
        # For an empty array, which a process may have, NumPy returns integers.
        np.bincount(bin_of, part, minlength=len(bounds)).astype(np.float64, copy=False)
        for part in (weight, weight * distance**2, weight * distance)
    ]
    sharding.add_up_arrays([numbers, *sums])
    return tuple(
        CountBin(*bounds[place], RatingErrors(int(numbers[place]), *(float(one[place]) for one in sums)))
        for place in np.flatnonzero(numbers)
    )
