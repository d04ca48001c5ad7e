"""The columns with the highest predictions for many rows, without those that a row has seen."""

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
    """The best columns for every requested row, best first.

    Attributes:
        columns: ``(rows, k)``, int64; -1 where fewer than k columns are left for a row.
        scores: ``(rows, k)``, the predictions, of the dtype of the factors; minus infinity where the column
            is -1.
        known: ``(rows,)``, bool; False for rows given as -1, which get the columns with the highest bias.

    """

    columns: Tensor
    scores: Tensor
    known: Tensor

    @property
    def counts(self) -> Tensor:
        """Number of columns recommended to every row, ``(rows,)``, int64."""
        return (self.columns >= 0).sum(1)


@torch.no_grad()
def recommend(
    two_factors: TwoFactors,
    rows: Any,
    k: int = 10,
    *,
    seen: SeenColumns | Observations | None = None,
    candidates: Any = None,
    exclude: Any = None,
) -> Recommendations:
    """Return the ``k`` columns with the highest predictions for every row, exactly.

    Ties are broken by the lower column. The work is shared by torch's threads, and results are bit-identical
    for any number of them. Scores stay in registers: memory is that of the result and of one copy of ``b``.
    Factors on a GPU are multiplied there, in blocks; the result is on the CPU.

    Args:
        two_factors: see `collapse`.
        rows: integers from 0 to m-1, shape ``(rows,)``, in any order; -1 for an id that the model does not
            know, which gets the columns with the highest bias, or none if there are no biases.
        k: from 1 to 2**24.
        seen: the columns that each row has seen, which are not recommended to it. `SeenColumns` are sorted
            once, for any number of calls; `Observations` are sorted in each call.
        candidates: integers from 0 to n-1, shape ``(candidates,)``, in any order: the only columns that may
            be recommended; None for all. Work and memory are proportional to their number.
        exclude: integers from 0 to n-1, shape ``(excluded,)``, in any order: columns that are not
            recommended, even if they are candidates. In both, repeated columns count once, and -1, an id that
            the model does not know, is ignored.

    Raises:
        TypeError: ``rows``, ``k``, ``candidates`` or ``exclude`` are not integers, or ``seen`` is something
            else.
        ValueError: ``rows``, ``candidates`` or ``exclude`` is not one-dimensional, ``k`` is out of range, or
            ``seen`` has another shape.
        IndexError: a row or a column is out of range.

    Example:
        >>> two_factors = TwoFactors(torch.eye(2), torch.tensor([[1.0, 3.0, 2.0], [5.0, 4.0, 6.0]]))
        >>> recommend(two_factors, [0, 1], 2, seen=SeenColumns.of_pairs([1], [2], (2, 3))).columns
        tensor([[1, 2],
                [0, 1]])
        >>> recommend(two_factors, [0, 1], 2, exclude=[1]).columns
        tensor([[2, 0],
                [2, 0]])

    """
    rows = checked_indices("rows", rows, two_factors.shape[0], unknown=True)
    k = whole_number("k", k, least=1, most=_native.most_best_columns)
    lists = _checked_seen(seen, two_factors.shape)
    allowed = _allowed(two_factors.shape[1], candidates, exclude)
    known = rows >= 0
    best = _best if candidates is None else _best_candidates
    columns, scores = best(two_factors, rows.clamp(min=0), k, lists, allowed)
    if two_factors.row_bias is not None:
        scores += two_factors.row_bias.cpu()[rows.clamp(min=0), None]
    if not known.all():
        columns[~known], scores[~known] = _most_liked(two_factors, k, allowed)
    return Recommendations(columns, scores.add_(two_factors.mean), known)


def _allowed(count: int, candidates: Any, exclude: Any) -> Tensor:
    """Return whether each column may be recommended, ``(count,)``, bool."""
    allowed = torch.full((count,), candidates is None, device="cpu")
    if candidates is not None:
        allowed[_known("candidates", candidates, count)] = True
    if exclude is not None:
        allowed[_known("exclude", exclude, count)] = False
    return allowed


def _known(name: str, columns: Any, count: int) -> Tensor:
    indices = checked_indices(name, columns, count, unknown=True)
    return indices.masked_select(indices >= 0)


def _best(
    two_factors: TwoFactors, rows: Tensor, k: int, lists: SeenColumns | None, allowed: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the best allowed columns of known rows, and their scores without row biases and the mean."""
    bias = two_factors.column_bias
    if not allowed.all():
        bias = two_factors.b.new_zeros(two_factors.shape[1]) if bias is None else bias
        # Scores of minus infinity are never among the best.
        bias = bias.masked_fill(~allowed.to(bias.device), -torch.inf)
    offsets, columns = (None, None) if lists is None else (lists.offsets, lists.columns)
    return top_columns(two_factors.a, two_factors.b, bias, rows, offsets, columns, k)


def _best_candidates(
    two_factors: TwoFactors, rows: Tensor, k: int, lists: SeenColumns | None, allowed: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what `_best` does, from copies of the requested rows and the allowed columns alone."""
    candidates = allowed.nonzero()[:, 0]
    if not len(candidates) or not len(rows):
        return _nothing((len(rows), k), two_factors.a.dtype)
    distinct, places = torch.unique(rows, return_inverse=True)
    of_rows, of_columns = (indices.to(two_factors.a.device) for indices in (distinct, candidates))
    bias = two_factors.column_bias
    part = TwoFactors(
        two_factors.a.index_select(0, of_rows),
        two_factors.b.index_select(1, of_columns),
        column_bias=None if bias is None else bias.index_select(0, of_columns),
    )
    seen = None if lists is None else lists.within(distinct, candidates)
    columns, scores = _best(
        part, places, k, seen, torch.ones(len(candidates), dtype=torch.bool, device="cpu")
    )
    return torch.where(columns >= 0, candidates[columns.clamp(min=0)], -1), scores


def _nothing(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.full(shape, -1, device="cpu"), torch.full(shape, -torch.inf, dtype=dtype, device="cpu")


def _most_liked(two_factors: TwoFactors, k: int, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Return the allowed columns for an unknown row, and their scores without the mean."""
    columns, scores = _nothing((k,), two_factors.a.dtype)
    if two_factors.column_bias is not None:
        bias = two_factors.column_bias.cpu()
        order = torch.argsort(bias, descending=True, stable=True)
        best = order[allowed[order]][:k]
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
