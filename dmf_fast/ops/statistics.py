"""Sums over observed entries, computed by the kernels: degrees, and mean and spread of the values."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from dmf_fast.observations import Observations
from dmf_fast.ops import operators  # noqa: F401 (registers torch.ops.dmf_fast)
from dmf_fast.threads import one_thread

_native = torch.ops.dmf_fast
# Relative rounding error of a mean of many numbers in float64.
_ROUNDING = 1e-14
# Whole numbers up to this are exact in float32.
_EXACT = 2**24

_Result = TypeVar("_Result")


def _computed_once(statistic: Callable[[Observations], _Result]) -> Callable[[Observations], _Result]:
    """Cache a statistic for the lifetime of the observations, which are immutable."""
    known: WeakKeyDictionary[Observations, _Result] = WeakKeyDictionary()

    @wraps(statistic)
    def kept(observations: Observations) -> _Result:
        if observations not in known:
            known[observations] = statistic(observations)
        return known[observations]

    return kept


@_computed_once
def degrees(observations: Observations) -> tuple[Tensor, Tensor]:
    """Return the sum of the weights of each row, ``(m,)``, and of each column, ``(n,)``, in float64.

    Without weights these are numbers of entries. They are computed once and cached. If processes share the
    rows, each gets its own rows.

    >>> degrees(Observations([0, 0, 1], [0, 1, 0], [3.0, 4.0, 5.0]))
    (tensor([2., 1.], dtype=torch.float64), tensor([2., 1.], dtype=torch.float64))
    """
    of_parts = [_degrees(part) for part in observations.parts]
    rows = torch.cat([rows for rows, _ in of_parts])
    return rows, observations.sharding.total([columns for _, columns in of_parts])


@_computed_once
def mean_value(observations: Observations) -> float:
    """Return the weighted mean of the values; 0 if the weights sum to 0.

    >>> mean_value(Observations([0, 1], [0, 0], [1.0, 5.0], weights=[3.0, 1.0]))
    2.0
    """
    total = observations.sharding.total_of([_sum(part) for part in observations.parts])
    return total / (observations.total_weight or 1.0)


def spread(observations: Observations, center: float) -> float:
    """Return the root mean square of the values around ``center``; 1 if all of them equal it to rounding.

    >>> spread(Observations([0, 1], [0, 0], [1.0, 5.0]), center=3.0)
    2.0
    """
    squares = observations.sharding.total_of([_squares(part, center) for part in observations.parts])
    root = math.sqrt(squares / (observations.total_weight or 1.0))
    rounding = torch.finfo(_wide(observations.dtype)).eps
    return root if root > max(_ROUNDING, rounding) * abs(center) else 1.0


def value_range(observations: Observations) -> tuple[float, float]:
    """Return the smallest and the largest value; there must be at least one.

    >>> value_range(Observations([0, 1], [0, 0], [1.0, 5.0]))
    (1.0, 5.0)
    """
    known = [part.layout().values.aminmax() for part in observations.parts if part.nnz]
    lowest = min((pair.min.item() for pair in known), default=math.inf)
    highest = max((pair.max.item() for pair in known), default=-math.inf)
    below, above = observations.sharding.largest([-lowest, highest])
    return -below, above


def _degrees(part: Observations) -> tuple[Tensor, Tensor]:
    # These are the gradients of half the squared products at factors of ones.
    layout, shape = part.layout(), part.shape
    exact = layout.weights is None and max(shape) < _EXACT  # no row or column has more entries
    values = layout.values.new_zeros(len(part), dtype=torch.float32 if exact else torch.float64)
    weights = None if layout.weights is None else layout.weights.to(values.dtype)
    ones = (values.new_ones(size, 1) for size in shape)
    _, rows, columns = _native.completion_loss_gradients(*ones, layout.buffer, values, weights, 0.5)
    return rows.flatten().double(), columns.flatten().double()


def _sum(part: Observations) -> float:
    """Return the weighted sum of the values."""
    layout = part.layout()
    with one_thread():  # so that the result does not depend on the number of threads
        if layout.weights is None:
            return layout.values.sum(dtype=torch.float64).item()
        return (layout.values.double() @ layout.weights.double()).item()


def _squares(part: Observations, center: float) -> float:
    """Return the weighted sum of the squared differences from ``center``."""
    layout, (rows, columns) = part.layout(), part.shape
    values = layout.values.double()  # the dtype of the sum, too
    weights = None if layout.weights is None else layout.weights.double()
    sides = values.new_full((rows, 1), center), values.new_ones(columns, 1)
    return float(_native.completion_loss_forward(*sides, layout.buffer, values, weights, 1.0).item())


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
