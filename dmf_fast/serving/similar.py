"""Columns that are similar to a column, and rows that are similar to a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dmf_fast import _native
from dmf_fast.checks import whole_number
from dmf_fast.serving.indices import checked_indices
from dmf_fast.serving.top_columns import top_columns
from dmf_fast.serving.two_factors import TwoFactors


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The most similar rows or columns for every requested one, most similar first.

    Attributes:
        indices: int64, ``(asked, k)``, padded with -1 if there are fewer than k others.
        similarities: cosines, ``(asked, k)``, of the dtype of the factors; minus infinity where the index is
            -1.

    """

    indices: Tensor
    similarities: Tensor


def similar_columns(two_factors: TwoFactors, columns: Any, k: int = 10) -> Neighbors:
    """Return the ``k`` other columns whose factors have the largest cosine similarity with each column.

    Factors are those of `TwoFactors.balanced`, so the result depends on the predictions and not on how they
    are factored. Biases are ignored. A column whose factors are all zero has cosine 0 with every other
    column. Results are exact and bit-identical for any number of threads; ties are broken by the lower index.

    Args:
        two_factors: see `collapse`.
        columns: integers from 0 to n-1, ``(asked,)``.
        k: from 1 to 2**24.

    Raises:
        TypeError: ``columns`` or ``k`` are not integers.
        ValueError: ``columns`` is not one-dimensional, or ``k`` out of range.
        IndexError: a column is out of range.

    Example:
        >>> two_factors = TwoFactors(torch.eye(2), torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 0.1]]))
        >>> similar_columns(two_factors, [0], 1).indices
        tensor([[2]])

    """
    indices = checked_indices("columns", columns, two_factors.shape[1])
    return _nearest(two_factors.balanced.b.T, indices, k)


def similar_rows(two_factors: TwoFactors, rows: Any, k: int = 10) -> Neighbors:
    """Return the ``k`` other rows whose factors have the largest cosine similarity with each row.

    See `similar_columns` for details.

    Args:
        two_factors: see `collapse`.
        rows: integers from 0 to m-1, ``(asked,)``.
        k: from 1 to 2**24.

    Raises:
        TypeError: ``rows`` or ``k`` are not integers.
        ValueError: ``rows`` is not one-dimensional, or ``k`` is out of range.
        IndexError: a row is out of range.

    Example:
        >>> similar_rows(TwoFactors(torch.tensor([[1.0], [2.0], [-1.0]]), torch.ones(1, 4)), [0], 2).indices
        tensor([[1, 2]])

    """
    indices = checked_indices("rows", rows, two_factors.shape[0])
    return _nearest(two_factors.balanced.a, indices, k)


def _nearest(factors: Tensor, indices: Tensor, k: int) -> Neighbors:
    k = whole_number("k", k, least=1, most=_native.most_best_columns)
    # In float64, in which squares of float32 do not overflow.
    directions = torch.nn.functional.normalize(factors.double(), eps=torch.finfo(torch.float64).tiny)
    directions = directions.to(factors.dtype).contiguous()
    lines = len(directions)
    # Every row has seen itself.
    offsets = torch.arange(lines + 1, device="cpu")
    itself = torch.arange(lines, dtype=torch.int32, device="cpu")
    transposed = directions.T.contiguous()
    return Neighbors(*top_columns(directions, transposed, None, indices, offsets, itself, k))
