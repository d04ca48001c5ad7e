"""The ratings that a model is tested on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dmf_fast.evaluation.numbers import Floats, Integers, finite_numbers, finite_weights
from dmf_fast.observations import Observations
from dmf_fast.observations.validation import check_length, read_indices


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Ratings kept aside, by index; -1 stands for an id that the training ratings lack.

    Args:
        rows: ``(len,)`` integers ≥ -1; kept as int64.
        columns: ``(len,)`` integers ≥ -1; kept as int64.
        values: ``(len,)`` finite numbers of at most 1e140 in size; kept as float64.
        weights: ``(len,)`` finite numbers ≥ 0, or None for weights of 1; kept as float64.

    Raises:
        TypeError: indices are not integers, values or weights not real numbers.
        IndexError: an index is below -1.
        ValueError: lengths disagree, a number is not finite or too large, or a weight is negative.

    Example:
        >>> len(HeldOut([0, -1], [2, 1], [4.0, 5.0]))
        2

    """

    rows: Integers
    columns: Integers
    values: Floats
    weights: Floats | None = None

    def __post_init__(self) -> None:
        rows, columns = _indices("rows", self.rows), _indices("columns", self.columns)
        check_length("columns", len(columns), len(rows))
        values = finite_numbers("values", self.values, len(rows))
        weights = None if self.weights is None else finite_weights(self.weights, len(rows))
        for name, array in (("rows", rows), ("columns", columns), ("values", values), ("weights", weights)):
            object.__setattr__(self, name, array)

    @classmethod
    def of(cls, observations: Observations) -> HeldOut:
        """Return the entries of ``observations`` with their weights.

        >>> HeldOut.of(Observations([0], [1], [2.5])).values.tolist()
        [2.5]
        """
        rows, columns = observations.coordinates()
        weights = observations.weights
        return cls(
            rows.cpu().numpy(),
            columns.cpu().numpy(),
            observations.values.cpu().double().numpy(),
            None if weights is None else weights.cpu().double().numpy(),
        )

    def __len__(self) -> int:
        """Return the number of ratings."""
        return len(self.values)


def _indices(name: str, given: Any) -> Integers:
    indices = read_indices(name, given).astype(np.int64)
    if indices.size and indices.min() < -1:
        position = int(indices.argmin())
        raise IndexError(
            f"`{name}` must be at least -1, which stands for an unknown id, got {name}[{position}] = "
            f"{indices[position]}"
        )
    return indices
