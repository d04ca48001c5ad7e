"""Held-out ratings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from dmf_fast.evaluation.numbers import Floats, Integers, finite_numbers, finite_weights
from dmf_fast.observations import Observations
from dmf_fast.observations.validation import check_length, read_indices
from dmf_fast.sharding import row_offsets


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out ratings by index; -1 stands for an id that is not in the training ratings.

    Args:
        rows: ``(len,)`` integers ≥ -1; kept as int64.
        columns: ``(len,)`` integers ≥ -1; kept as int64.
        values: ``(len,)`` finite numbers of magnitude at most 1e140; kept as float64.
        weights: ``(len,)`` finite numbers ≥ 0, or None for weights of 1; kept as float64.

    Raises:
        TypeError: indices are not integers, or values or weights are not real numbers.
        IndexError: an index is below -1.
        ValueError: lengths differ, a number is not finite or too large, or a weight is negative.

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
        """Return the entries of ``observations`` with their weights; for row blocks those of this process.

        >>> HeldOut.of(Observations([0], [1], [2.5])).values.tolist()
        [2.5]
        """
        parts = observations.parts
        places = [part.coordinates() for part in parts]
        begins = row_offsets(parts)
        weights = [part.weights for part in parts]
        known = [_floats(one) for one in weights if one is not None]
        return cls(
            np.concatenate(
                [rows.cpu().numpy() + begin for (rows, _), begin in zip(places, begins, strict=False)]
            ),
            np.concatenate([columns.cpu().numpy() for _, columns in places]),
            np.concatenate([_floats(part.values) for part in parts]),
            np.concatenate(known) if known else None,
        )

    def __len__(self) -> int:
        """Return the number of ratings."""
        return len(self.values)


def _floats(numbers: Tensor) -> Floats:
    floats: Floats = numbers.cpu().double().numpy()
    return floats


def _indices(name: str, given: Any) -> Integers:
    indices = read_indices(name, given).astype(np.int64)
    if indices.size and indices.min() < -1:
        position = int(indices.argmin())
        raise IndexError(
            f"`{name}` must be at least -1, which stands for an unknown id, got {name}[{position}] = "
            f"{indices[position]}"
        )
    return indices
