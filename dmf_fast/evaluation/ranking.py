"""Ranking metrics of recommendations: recall, precision, NDCG, hit rate and reciprocal rank at k.

The metrics are those of trec_eval with binary relevance. Its bindings (pytrec-eval-terrier, which ir-measures
also uses) take dictionaries of strings and have no wheels for aarch64; ranx compiles itself with Numba and
requires ten packages; scikit-learn needs a dense matrix of scores and has no recall at k. Given the hits,
each metric is one line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dmf_fast.evaluation.held_out import HeldOut
from dmf_fast.evaluation.numbers import Integers
from dmf_fast.sharding import RowSharding


@dataclass(frozen=True)
class RankingMetrics:
    """Ranking metrics as sums over rows, so that those of disjoint sets of rows can be added with `+`.

    Attributes:
        cutoff: k, the number of recommendations per row that count.
        rows: number of rows measured: those with a relevant held-out column.
        rows_left_out: number of held-out rows without a relevant column, for which no metric is defined.
        recalls: sum of the fractions of a row's relevant columns that are recommended.
        precisions: sum of the numbers of relevant recommendations divided by k, even if there are fewer.
        gains: sum of NDCG@k with binary relevance.
        hits: number of rows with a relevant recommendation.
        reciprocal_ranks: sum of 1 / rank of the first relevant recommendation, 0 for rows without one.

    """

    cutoff: int
    rows: int = 0
    rows_left_out: int = 0
    recalls: float = 0.0
    precisions: float = 0.0
    gains: float = 0.0
    hits: float = 0.0
    reciprocal_ranks: float = 0.0

    def __add__(self, other: RankingMetrics) -> RankingMetrics:
        if not isinstance(other, RankingMetrics):
            return NotImplemented
        if self.cutoff != other.cutoff:
            raise ValueError(
                f"`cutoff` must be the same in both to add them, got {self.cutoff} and {other.cutoff}"
            )
        sums = (getattr(self, name) + getattr(other, name) for name in _SUMS)
        return RankingMetrics(self.cutoff, **dict(zip(_SUMS, sums, strict=True)))

    def of_all(self, sharding: RowSharding) -> RankingMetrics:
        """Return the sums over the processes that share the rows."""
        numbers = torch.tensor([getattr(self, name) for name in _SUMS], dtype=torch.float64, device="cpu")
        sharding.add_up([numbers])
        rows, left_out, *others = numbers.tolist()
        return RankingMetrics(self.cutoff, int(rows), int(left_out), *others)

    @property
    def recall(self) -> float | None:
        """Mean recall@k; None if no row was measured."""
        return self._mean(self.recalls)

    @property
    def precision(self) -> float | None:
        """Mean precision@k."""
        return self._mean(self.precisions)

    @property
    def ndcg(self) -> float | None:
        """Mean NDCG@k."""
        return self._mean(self.gains)

    @property
    def hit_rate(self) -> float | None:
        """Fraction of rows with a relevant recommendation."""
        return self._mean(self.hits)

    @property
    def mrr(self) -> float | None:
        """Mean reciprocal rank among the first k."""
        return self._mean(self.reciprocal_ranks)

    def as_dict(self) -> dict[str, float | int | None]:
        """Return the means, k and the numbers of rows, for JSON."""
        means = {name: getattr(self, name) for name in ("recall", "precision", "ndcg", "hit_rate", "mrr")}
        return {"cutoff": self.cutoff, "rows": self.rows, "rows_left_out": self.rows_left_out, **means}

    def _mean(self, total: float) -> float | None:
        return total / self.rows if self.rows else None


_SUMS = ("rows", "rows_left_out", "recalls", "precisions", "gains", "hits", "reciprocal_ranks")


class Relevant:
    """The held-out columns that are relevant, row by row.

    A held-out column without training ratings (-1) is also relevant but cannot be recommended, so it counts
    as missed. Unknown held-out rows (-1) cannot be told apart and are ignored.

    Args:
        held_out: the held-out ratings.
        least_value: the smallest value of a relevant column; None if all held-out columns are relevant.

    Example:
        >>> relevant = Relevant(HeldOut([0, 0, 1], [3, 4, 3], [5.0, 1.0, 2.0]), least_value=4.0)
        >>> relevant.rows.tolist(), relevant.rows_left_out
        ([0], 1)

    """

    def __init__(self, held_out: HeldOut, least_value: float | None = None) -> None:
        known = held_out.rows >= 0
        chosen = known if least_value is None else known & (held_out.values >= least_value)
        self.rows, places = np.unique(held_out.rows[chosen], return_inverse=True)
        self.rows_left_out = len(np.unique(held_out.rows[known])) - len(self.rows)
        columns = held_out.columns[chosen].astype(np.int64)
        seen = columns >= 0  # by training
        self._width = int(columns.max(initial=0)) + 1
        pairs = np.unique(places[seen] * self._width + columns[seen])
        self._counts = np.bincount(np.append(pairs // self._width, places[~seen]), minlength=len(self.rows))
        self._pairs = np.append(pairs, np.iinfo(np.int64).max)  # greater than any pair that is looked up

    def measure(self, rows: Integers, recommended: Integers) -> RankingMetrics:
        """Return the metrics of ``recommended`` for ``rows``, which must all be in ``self.rows``.

        Args:
            rows: ``(len,)``, distinct.
            recommended: ``(len, k)`` columns, best first, padded with -1.

        Raises:
            ValueError: the shape is wrong, a column is recommended twice to a row, or a row has no relevant
                column.

        Example:
            >>> relevant = Relevant(HeldOut([0, 0, 1], [3, 4, 3], [5.0, 4.0, 2.0]))
            >>> relevant.measure(np.array([0, 1]), np.array([[4, 2], [3, -1]])).recall
            0.75

        """
        rows, recommended = np.asarray(rows), np.asarray(recommended)
        _check_recommended(rows, recommended)
        places = np.searchsorted(self.rows, rows)
        if not np.isin(rows, self.rows).all():
            raise ValueError(
                "`rows` must have relevant columns, got one without; take them from Relevant.rows"
            )
        return _measured(self._hits(places, recommended), self._counts[places])

    def _hits(self, places: Integers, recommended: Integers) -> NDArray[np.bool_]:
        wanted = places[:, None] * self._width + recommended
        is_column = (recommended >= 0) & (recommended < self._width)
        hits: NDArray[np.bool_] = self._pairs[np.searchsorted(self._pairs, wanted)] == wanted
        return hits & is_column


def _measured(hits: NDArray[np.bool_], relevant: Integers) -> RankingMetrics:
    """Return the metrics of rows of ``hits``, best first, given the number of relevant columns of each."""
    ranks = np.arange(1, hits.shape[1] + 1)
    cutoff = max(1, len(ranks))
    discounts = 1 / np.log2(1 + ranks)
    ideal = np.append(1.0, np.cumsum(discounts))[np.minimum(relevant, len(ranks))]
    return RankingMetrics(
        cutoff,
        rows=len(hits),
        recalls=float((hits.sum(axis=1) / relevant).sum()),
        precisions=float(hits.sum() / cutoff),
        gains=float((hits @ discounts / ideal).sum()),
        hits=float(hits.any(axis=1).sum()),
        reciprocal_ranks=float((hits / ranks).max(axis=1, initial=0.0).sum()),
    )


def _check_recommended(rows: Integers, recommended: Integers) -> None:
    if recommended.ndim != 2 or len(recommended) != len(rows):
        raise ValueError(
            f"`recommended` must have shape ({len(rows)}, k), columns for each row, got {recommended.shape}"
        )
    if recommended.dtype.kind not in "iu":
        raise ValueError(f"`recommended` must hold integers, got {recommended.dtype}; pad with -1")
    if len(np.unique(rows)) != len(rows):
        raise ValueError("`rows` must be distinct, got one twice; recommend to each row once")
    in_order = np.sort(recommended, axis=1)
    twice = ((in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] >= 0)).any(axis=1)
    if twice.any():
        raise ValueError(
            f"`recommended` must hold distinct columns for each row, got one twice for row "
            f"{rows[int(twice.argmax())]}"
        )
