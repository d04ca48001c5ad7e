"""Scales of a completion problem: how well rows and columns are known, and how far values spread.

All of it is NumPy in one thread: sums of a few passes over the entries, which more threads would not add up
in the same order.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmf_fast.observations import Observations

Floats = NDArray[np.float64]

# Of a mean of many numbers in float64.
_ROUNDING = 1e-14


def degree_scales(observations: Observations, exponent: float) -> tuple[Tensor, Tensor]:
    """Return a scale for every row, ``(m,)``, and for every column, ``(n,)``, float64.

    With ``d_i`` the entries of row ``i`` (the sum of their weights), its scale is proportional to
    ``d_i^(−exponent/2)``, with a mean square of 1 over the entries; columns likewise. An exponent of 0 gives
    ones, 1 the balance in which every row weighs the same. A row without entries has the scale of one with
    the fewest.

    >>> rows, columns = degree_scales(Observations([0, 0, 0, 0, 1], [0, 1, 2, 3, 0], [1.0] * 5), exponent=1.0)
    >>> (rows[1] / rows[0]).item()
    2.0
    """
    weights = _weights(observations)
    rows, columns = (
        torch.from_numpy(_scale(np.bincount(places, weights, length), exponent)).to(observations.device)
        for places, length in zip(_places(observations), observations.shape, strict=True)
    )
    return rows, columns


def mean_value(observations: Observations) -> float:
    """Return the weighted mean of the values.

    >>> mean_value(Observations([0, 1], [0, 0], [1.0, 5.0], weights=[3.0, 1.0]))
    2.0
    """
    return float(np.average(_values(observations), weights=_weights(observations)))


def spread(observations: Observations, center: float) -> float:
    """Return the root mean square of the values around ``center``; 1 where all of them are equal to it.

    What differs by rounding is equal.

    >>> spread(Observations([0, 1], [0, 0], [1.0, 5.0]), center=3.0)
    2.0
    """
    squares = np.square(_values(observations) - center)
    root = math.sqrt(np.average(squares, weights=_weights(observations)))
    return root if root > _ROUNDING * abs(center) else 1.0


def _places(observations: Observations) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows, columns = (places.cpu().numpy() for places in observations.coordinates())
    return rows, columns


def _values(observations: Observations) -> Floats:
    values: Floats = observations.values.cpu().double().numpy()
    return values


def _weights(observations: Observations) -> Floats | None:
    weights = observations.weights
    return None if weights is None else weights.cpu().double().numpy()


def _scale(degrees: NDArray[np.number], exponent: float) -> Floats:
    known = degrees > 0
    filled = np.where(known, degrees, degrees[known].min()).astype(np.float64)
    squares = filled**-exponent
    scale: Floats = np.sqrt(squares * (degrees.sum() / (squares * degrees).sum()))
    return scale
