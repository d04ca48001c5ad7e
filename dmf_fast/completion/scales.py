"""Scales of a completion problem: how well rows and columns are known, and how loud the noise is."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dmf_fast.observations import Observations

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
    row_degrees, column_degrees = _degrees(observations)
    return _scale(row_degrees, exponent), _scale(column_degrees, exponent)


def mean_value(observations: Observations) -> float:
    """Return the weighted mean of the values.

    >>> mean_value(Observations([0, 1], [0, 0], [1.0, 5.0], weights=[3.0, 1.0]))
    2.0
    """
    values, weights = observations.values.double(), observations.weights
    if weights is None:
        return values.mean().item()
    return (values @ weights.double()).item() / observations.total_weight


def spread(observations: Observations, center: float) -> float:
    """Return the root mean square of the values around ``center``; 1 where all of them are equal to it.

    What differs by rounding is equal.

    >>> spread(Observations([0, 1], [0, 0], [1.0, 5.0]), center=3.0)
    2.0
    """
    squares = (observations.values.double() - center).square_()
    weights = observations.weights
    if weights is not None:
        squares *= weights.double()
    root = math.sqrt(squares.sum().item() / observations.total_weight)
    return root if root > _ROUNDING * abs(center) else 1.0


def noise_level(
    observations: Observations, row_scale: Tensor, column_scale: Tensor, value_scale: float
) -> float:
    """Return about how large the spectral norm of the mean loss's gradient is where all values are noise.

    A step along a singular vector that explains less than the noise does lowers the test error by nothing, so
    a weight decay is well measured in this unit. For independent errors of the size ``value_scale`` the norm
    of the sparse matrix of residuals is about the largest norm of a row plus that of a column (Seginer, "The
    Expected Norm of Random Matrices", 2000), which needs one pass over the entries and no random numbers.
    Both scales as in `ScaledFactorization`; the model's coordinates bring one more ``value_scale``.

    >>> rows, columns = torch.ones(2), torch.ones(3)
    >>> noise_level(Observations([0, 0, 0, 0, 1], [0, 1, 2, 3, 0], [1.0] * 5), rows, torch.ones(4), 1.0) > 0
    True
    """
    places, weights = observations.coordinates(), observations.weights
    strengths = 1.0 if weights is None else weights.double().square()
    row_squares, column_squares = row_scale.double().square(), column_scale.double().square()
    rows = row_squares * _sums(places[0], column_squares[places[1]] * strengths, len(row_scale))
    columns = column_squares * _sums(places[1], row_squares[places[0]] * strengths, len(column_scale))
    largest = math.sqrt(rows.max().item()) + math.sqrt(columns.max().item())
    return 2 * value_scale**2 * largest / observations.total_weight


def _degrees(observations: Observations) -> tuple[Tensor, Tensor]:
    weights = observations.weights
    strengths = torch.ones(1, dtype=torch.float64).expand(len(observations))
    if weights is not None:
        strengths = weights.double()
    rows, columns = (
        _sums(places, strengths, length)
        for places, length in zip(observations.coordinates(), observations.shape, strict=True)
    )
    return rows, columns


def _sums(places: Tensor, numbers: Tensor, length: int) -> Tensor:
    return torch.bincount(places, numbers, minlength=length)


def _scale(degrees: Tensor, exponent: float) -> Tensor:
    known = degrees > 0
    filled = torch.where(known, degrees, degrees[known].min())
    squares = filled**-exponent
    return (squares * (degrees.sum() / (squares * degrees).sum())).sqrt()
