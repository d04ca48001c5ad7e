"""The columns with the highest predictions for many rows, without those that a row has been seen with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dmf_fast import _native
from dmf_fast.checks import whole_number
from dmf_fast.observations import Observations
from dmf_fast.serving.indices import checked_indices
from dmf_fast.serving.seen_columns import SeenColumns
from dmf_fast.serving.top_columns import top_columns
from dmf_fast.serving.two_factors import TwoFactors


@dataclass(frozen=True, eq=False)
class Recommendations:
    """The best columns of every row that was asked for, best first.

    Attributes:
        columns: ``(rows, k)``, int64; -1 where a row has fewer left.
        scores: the predictions there, of the dtype of the factors; minus infinity where the column is -1.
        known: ``(rows,)``, False for rows given as -1, whose columns are those of the highest bias.

    """

    columns: Tensor
    scores: Tensor
    known: Tensor

    @property
    def counts(self) -> Tensor:
        """How many columns every row has got, ``(rows,)``, int64."""
        return (self.columns >= 0).sum(1)


@torch.no_grad()
def recommend(
    two_factors: TwoFactors, rows: Any, k: int = 10, *, seen: SeenColumns | Observations | None = None
) -> Recommendations:
    """Return the ``k`` columns with the highest predictions for every row, exactly.

    Columns with equal predictions come in rising order. The work is shared by torch's threads, and the result
    is bitwise the same for any number of them. Scores live in registers: memory is that of the result and of
    one copy of ``b``. Two factors on a GPU are multiplied there, in blocks; the result is on the CPU.

    Args:
        two_factors: see `collapse`.
        rows: integers from 0 to m-1, ``(rows,)``, in any order; -1 for an id that the model does not know,
            which gets the columns of the highest bias, and none where there are no biases.
        k: from 1 to 2**24.
        seen: what rows have been seen with and should not get. `SeenColumns` are sorted once, for any number
            of calls; `Observations` are sorted in this one.

    Raises:
        TypeError: ``rows`` or ``k`` are not integers, or ``seen`` is something else.
        ValueError: ``rows`` is not one-dimensional, ``k`` out of range, or ``seen`` of another shape.
        IndexError: a row is out of range.

    Example:
        >>> two_factors = TwoFactors(torch.eye(2), torch.tensor([[1.0, 3.0, 2.0], [5.0, 4.0, 6.0]]))
        >>> recommend(two_factors, [0, 1], 2, seen=SeenColumns.of_pairs([1], [2], (2, 3))).columns
        tensor([[1, 2],
                [0, 1]])

    """
    rows = checked_indices("rows", rows, two_factors.shape[0], unknown=True)
    k = whole_number("k", k, least=1, most=_native.most_best_columns)
    lists = _checked_seen(seen, two_factors.shape)
    known = rows >= 0
    columns, scores = top_columns(
        two_factors.a,
        two_factors.b,
        two_factors.column_bias,
        rows.clamp(min=0),
        None if lists is None else lists.offsets,
        None if lists is None else lists.columns,
        k,
    )
    if two_factors.row_bias is not None:
        scores += two_factors.row_bias.cpu()[rows.clamp(min=0), None]
    if not known.all():
        columns[~known], scores[~known] = _most_liked(two_factors, k)
    return Recommendations(columns, scores.add_(two_factors.mean), known)


def _most_liked(two_factors: TwoFactors, k: int) -> tuple[Tensor, Tensor]:
    """Return the columns for a row of which nothing is known, and their scores without the mean."""
    columns = torch.full((k,), -1, device="cpu")
    scores = torch.full((k,), -torch.inf, dtype=two_factors.a.dtype, device="cpu")
    if two_factors.column_bias is not None:
        bias = two_factors.column_bias.cpu()
        best = torch.argsort(bias, descending=True, stable=True)[:k]
        columns[: len(best)], scores[: len(best)] = best, bias[best]
    return columns, scores


def _checked_seen(seen: Any, shape: tuple[int, int]) -> SeenColumns | None:
    if not (seen is None or isinstance(seen, SeenColumns | Observations)):
        raise TypeError(f"`seen` must be SeenColumns, Observations or None, got {type(seen).__name__}")
    if seen is None:
        return None
    if seen.shape != shape:
        raise ValueError(f"`seen` must have the shape of the model, {shape}, got {seen.shape}")
    return SeenColumns.of(seen) if isinstance(seen, Observations) else seen
