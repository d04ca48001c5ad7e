"""Scales that balance rows and columns by their numbers of ratings."""

from __future__ import annotations

from torch import Tensor

from dmf_fast.observations import Observations
from dmf_fast.ops.statistics import degrees


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
    rows, columns = (_scale(one, exponent) for one in degrees(observations))
    return rows, columns


def _scale(degree: Tensor, exponent: float) -> Tensor:
    known = degree > 0
    squares = degree.where(known, degree[known].min()) ** -exponent
    return (squares * (degree.sum() / (squares * degree).sum())).sqrt()
