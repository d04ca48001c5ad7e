"""Sums over observed entries, by the kernels: degrees of rows and columns, mean and spread of the values."""

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
# Of a mean of many numbers in float64.
_ROUNDING = 1e-14
# Whole numbers up to here are float32, too.
_EXACT = 2**24

_Result = TypeVar("_Result")


def _computed_once(statistic: Callable[[Observations], _Result]) -> Callable[[Observations], _Result]:
    """Keep what a statistic is of observations, which never change, for as long as they are there."""
    known: WeakKeyDictionary[Observations, _Result] = WeakKeyDictionary()

    @wraps(statistic)
    def kept(observations: Observations) -> _Result:
        if observations not in known:
            known[observations] = statistic(observations)
        return known[observations]

    return kept


@_computed_once
def degrees(observations: Observations) -> tuple[Tensor, Tensor]:
    """Return the sum of the weights of every row, ``(m,)``, and of every column, ``(n,)``, float64.

    Without weights these are numbers of entries. They are computed once for all calls.

    >>> degrees(Observations([0, 0, 1], [0, 1, 0], [3.0, 4.0, 5.0]))
    (tensor([2., 1.], dtype=torch.float64), tensor([2., 1.], dtype=torch.float64))
    """
    # The gradients of half the squares of ones, at products of ones.
    layout, shape = observations.layout(), observations.shape
    exact = layout.weights is None and max(shape) < _EXACT  # a row has at most as many entries
    values = layout.values.new_zeros(len(observations), dtype=torch.float32 if exact else torch.float64)
    weights = None if layout.weights is None else layout.weights.to(values.dtype)
    ones = (values.new_ones(size, 1) for size in shape)
    _, rows, columns = _native.completion_loss_gradients(*ones, layout.buffer, values, weights, 0.5)
    return rows.flatten().double(), columns.flatten().double()


@_computed_once
def mean_value(observations: Observations) -> float:
    """Return the weighted mean of the values, 0 where the weights have no sum.

    >>> mean_value(Observations([0, 1], [0, 0], [1.0, 5.0], weights=[3.0, 1.0]))
    2.0
    """
    layout = observations.layout()
    with one_thread():  # the same for any number
        if layout.weights is None:
            total = layout.values.sum(dtype=torch.float64)
        else:
            total = layout.values.double() @ layout.weights.double()
    return total.item() / (observations.total_weight or 1.0)


def spread(observations: Observations, center: float) -> float:
    """Return the root mean square of the values around ``center``; 1 where all of them are equal to it.

    What differs by rounding is equal.

    >>> spread(Observations([0, 1], [0, 0], [1.0, 5.0]), center=3.0)
    2.0
    """
    layout, (rows, columns) = observations.layout(), observations.shape
    wide = torch.float64 if layout.values.dtype == torch.float64 else torch.float32
    values = layout.values.to(wide)
    weights = None if layout.weights is None else layout.weights.to(wide)
    sides = values.new_full((rows, 1), center), values.new_ones(columns, 1)
    squares = _native.completion_loss_forward(*sides, layout.buffer, values, weights)
    root = math.sqrt(squares.item() / (observations.total_weight or 1.0))
    return root if root > max(_ROUNDING, torch.finfo(wide).eps) * abs(center) else 1.0
