"""Scales that balance rows and columns by their numbers of ratings."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dmf_fast.observations import Observations
from dmf_fast.ops.statistics import degrees
from dmf_fast.sharding import WHOLE, RowSharding
from dmf_fast.threads import one_thread


def degree_scales(observations: Observations, exponent: float) -> tuple[Tensor, Tensor]:
    """Return a scale for every row, ``(m,)``, and for every column, ``(n,)``, float64.

    If row ``i`` has ``d_i`` entries (the sum of their weights), its scale is proportional to
    ``d_i^(−exponent/2)``, with a mean square of 1 over the entries; columns likewise. An exponent of 0 gives
    ones, and 1 gives every row the same weight. A row without entries gets the scale of the row with the
    fewest.

    >>> rows, columns = degree_scales(Observations([0, 0, 0, 0, 1], [0, 1, 2, 3, 0], [1.0] * 5), exponent=1.0)
    >>> (rows[1] / rows[0]).item()
    2.0
    """
    sharding = observations.sharding
    rows, columns = degrees(observations)
    return _scale(rows, exponent, sharding), _scale(columns, exponent, WHOLE)


def _scale(degree: Tensor, exponent: float, sharding: RowSharding) -> Tensor:
    known = degree[degree > 0]
    fewest = -sharding.largest([-known.min().item() if len(known) else -math.inf])[0]
    of_parts = sharding.split(degree)
    # Part by part in one thread, since the last digit of a power depends on its position in the vector.
    with one_thread():
        squares = [own.where(own > 0, fewest) ** -exponent for own in of_parts]
        total = sharding.total([own.sum() for own in of_parts])
        scaled = sharding.total([(one * own).sum() for one, own in zip(squares, of_parts, strict=True)])
        return (torch.cat(squares) * (total / scaled)).sqrt()
