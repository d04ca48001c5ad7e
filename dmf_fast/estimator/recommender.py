"""Recommendations and similar ids: `dmf_fast.serving` by raw ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from dmf_fast.checks import whole_number
from dmf_fast.estimator.attributes import FittedAttributes
from dmf_fast.estimator.inputs import SIDES
from dmf_fast.estimator.ranking import Ranking, ranking_of
from dmf_fast.estimator.raw_ids import id_at, known_positions, read_ids
from dmf_fast.serving import Neighbours, recommend, similar_columns, similar_rows


class Recommender(FittedAttributes):
    """What a fitted estimator says about ids that it is asked for."""

    def recommend(self, ids: Any, k: int = 10, *, exclude_seen: bool = True) -> Ranking:
        """Return the ``k`` column ids with the highest predictions for every row id, and these predictions.

        Args:
            ids: ``(asked,)`` row ids; an unknown one gets the columns of the highest bias.
            k: at least 1.
            exclude_seen: whether a row does not get columns that it has ratings of.

        Raises:
            ValueError: the ratings were not kept, although they are to be left out.

        """
        check_is_fitted(self)
        fitted = self._fitted
        rows = known_positions(_asked(ids), fitted.row_ids)
        if exclude_seen and fitted.seen is None:
            raise ValueError(
                "The ratings were not kept: say exclude_seen=False, or fit with keep_ratings=True."
            )
        k = min(whole_number("k", k, least=1), fitted.model.shape[1])
        best = recommend(fitted.two_factors, rows, k, seen=fitted.seen if exclude_seen else None)
        columns, scores = best.columns.numpy(), fitted.predictor.clipped(best.scores.double().numpy())
        return ranking_of(fitted.column_ids, columns, np.where(columns >= 0, scores, -np.inf))

    def similar_items(self, ids: Any, k: int = 10) -> Ranking:
        """Return the ``k`` other column ids that are most like each of ``ids``, with their cosines.

        An id that is not known raises a `ValueError`; the rest is as for `dmf_fast.serving.similar_columns`.
        """
        return self._similar(similar_columns, ids, k, axis=1)

    def similar_users(self, ids: Any, k: int = 10) -> Ranking:
        """Return the ``k`` other row ids that are most like each of ``ids``, as `similar_items` does."""
        return self._similar(similar_rows, ids, k, axis=0)

    def _similar(self, similar: Callable[..., Neighbours], ids: Any, k: int, *, axis: int) -> Ranking:
        check_is_fitted(self)
        id_map = self._fitted.ids[axis]
        raw = _asked(ids)
        indices = known_positions(raw, id_map)
        if (indices < 0).any():
            unknown = id_at(raw, int((indices < 0).argmax()))
            raise ValueError(
                f"ids must be known {SIDES[axis]} ids, but {unknown!r} came, which fit has not seen."
            )
        k = min(whole_number("k", k, least=1), max(1, len(id_map) - 1))
        best = similar(self._fitted.two_factors, indices, k)
        return ranking_of(id_map, best.indices.numpy(), best.similarities.double().numpy())


def _asked(ids: Any) -> Any:
    """Return the ids that are asked for as a column."""
    if isinstance(ids, (str, bytes)) or not hasattr(ids, "__len__") or getattr(ids, "ndim", 1) != 1:
        raise TypeError(
            f"ids must be a list or an array of ids, (asked,), but {ids!r} came; write [{ids!r}]."
        )
    return read_ids("ids", "id", ids)
