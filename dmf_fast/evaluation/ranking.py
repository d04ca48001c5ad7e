"""How much of what a row likes stands among its recommendations.

The measures are those of TREC's own program, through pytrec-eval-terrier: C behind one function, maintained,
and what the retrieval field publishes with. (torchmetrics loops over the rows in Python and PyTorch;
scikit-learn wants a dense matrix of scores and has no recall at k.) It takes dictionaries, which are made for
some thousand rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dmf_fast.evaluation.held_out import HeldOut
from dmf_fast.evaluation.numbers import Integers
from dmf_fast.sharding import RowSharding

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class RankingMetrics:
    """Sums over rows of what their first ``cutoff`` recommendations are worth; `+` unites disjoint rows.

    Attributes:
        cutoff: k, how many recommendations of a row count.
        rows: how many rows were measured: those with something relevant among their held-out columns.
        rows_left_out: how many held-out rows have nothing relevant, so that no measure is defined.
        recalls: the sum over rows of the share of their relevant columns that was recommended.
        precisions: that of the share of k that is relevant, also where fewer than k were recommended.
        gains: that of NDCG@k, where a column is relevant or not.
        hits: how many rows have a relevant column recommended.
        reciprocal_ranks: the sum of 1 / place of the first relevant one, 0 where none is recommended.

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
        """Mean recall@k; None where no row was measured."""
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
        """Share of rows with a relevant column recommended."""
        return self._mean(self.hits)

    @property
    def mrr(self) -> float | None:
        """Mean reciprocal rank, of the first k."""
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

    A held-out column that training never saw (-1) is relevant too, and cannot be recommended: it counts as
    missed. Held-out rows that training never saw (-1) cannot be told apart, so nothing is measured for them.

    Args:
        held_out: the ratings kept aside.
        least_value: from which value on a column is relevant; None where every held-out one is.

    Example:
        >>> relevant = Relevant(HeldOut([0, 0, 1], [3, 4, 3], [5.0, 1.0, 2.0]), least_value=4.0)
        >>> relevant.rows.tolist(), relevant.rows_left_out
        ([0], 1)

    """

    def __init__(self, held_out: HeldOut, least_value: float | None = None) -> None:
        known = held_out.rows >= 0
        chosen = known if least_value is None else known & (held_out.values >= least_value)
        order = np.flatnonzero(chosen)
        order = order[np.argsort(held_out.rows[order], kind="stable")]
        self.rows, starts = np.unique(held_out.rows[order], return_index=True)
        self.rows_left_out = len(np.unique(held_out.rows[known])) - len(self.rows)
        self._bounds = np.append(starts, len(order))
        self._columns = held_out.columns[order]

    def measure(self, rows: Integers, recommended: Integers) -> RankingMetrics:
        """Return how well ``recommended`` meets what is relevant to ``rows``, each one of ``self.rows``.

        Args:
            rows: ``(len,)``, distinct.
            recommended: ``(len, k)`` columns, best first, -1 where there are fewer than k.

        Raises:
            ValueError: the shape is another, a column is recommended twice to a row, or a row has nothing
                relevant.

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
                "`rows` must have something relevant, got one without; take them from Relevant.rows"
            )
        total = RankingMetrics(max(1, recommended.shape[1]))
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            total += _measured(self._names(places[part]), recommended[part], total.cutoff)
        return total

    def _names(self, places: Integers) -> Iterator[list[str]]:
        for place in places.tolist():
            columns = self._columns[self._bounds[place] : self._bounds[place + 1]].tolist()
            # Unknown columns are as many as they were given, and none is ever recommended.
            yield [str(column) if column >= 0 else f"unknown {i}" for i, column in enumerate(columns)]


def _measured(relevant: Iterator[list[str]], recommended: Integers, cutoff: int) -> RankingMetrics:
    import pytrec_eval  # here, as it is slow to import

    judged = {str(row): dict.fromkeys(names, 1) for row, names in enumerate(relevant)}
    scores = range(cutoff, 0, -1)
    runs = {
        str(row): {str(column): score for column, score in zip(columns, scores, strict=False) if column >= 0}
        for row, columns in enumerate(recommended.tolist())
    }
    measures = {
        "recalls": f"recall_{cutoff}",
        "precisions": f"P_{cutoff}",
        "gains": f"ndcg_cut_{cutoff}",
        "hits": f"success_{cutoff}",
        "reciprocal_ranks": "recip_rank",
    }
    asked = {f"{name}.{cutoff}" for name in ("recall", "P", "ndcg_cut", "success")} | {"recip_rank"}
    by_row = pytrec_eval.RelevanceEvaluator(judged, asked).evaluate(runs).values()
    sums: dict[str, Any] = {
        name: float(np.sum([row[key] for row in by_row])) for name, key in measures.items()
    }
    return RankingMetrics(cutoff, rows=len(judged), **sums)


def _check_recommended(rows: Integers, recommended: Integers) -> None:
    if recommended.ndim != 2 or len(recommended) != len(rows):
        raise ValueError(
            f"`recommended` must be of shape ({len(rows)}, k), a row of columns for each of rows, got "
            f"{recommended.shape}"
        )
    if recommended.dtype.kind not in "iu":
        raise ValueError(
            f"`recommended` must hold integers, got {recommended.dtype}; -1 where there are fewer"
        )
    if len(np.unique(rows)) != len(rows):
        raise ValueError("`rows` must be distinct, got one twice; recommend to each row once")
    in_order = np.sort(recommended, axis=1)
    twice = ((in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] >= 0)).any(axis=1)
    if twice.any():
        raise ValueError(
            f"`recommended` must not name a column twice to a row, got one twice to row "
            f"{rows[int(twice.argmax())]}"
        )
