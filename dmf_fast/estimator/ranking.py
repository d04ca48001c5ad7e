"""Recommendations and similar ids: `dmf_fast.serving` by raw ids."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from dmf_fast.checks import whole_number
from dmf_fast.data import IdMap
from dmf_fast.estimator import ids as raw
from dmf_fast.estimator.fitted import FittedModel
from dmf_fast.html import html_table
from dmf_fast.serving import recommend, similar_columns, similar_rows
from dmf_fast.serving.indices import filter_indices, warn_of_unknown


class Ranking(NamedTuple):
    """The best ids for each requested id, best first.

    ``ids`` has shape ``(asked, k)`` and dtype object, None where fewer than ``k`` remain. ``scores`` has
    shape ``(asked, k)`` and dtype float64, minus infinity where the id is None.
    """

    ids: NDArray[np.object_]
    scores: NDArray[np.float64]

    def _repr_html_(self) -> str:
        """Return a table with a line per requested id: its best ids, with their scores."""
        columns = {
            str(place + 1): [
                "" if one is None else f"{one} ({score:.3g})"
                for one, score in zip(self.ids[:, place], self.scores[:, place], strict=True)
            ]
            for place in range(self.ids.shape[1])
        }
        return html_table(pa.table(columns))


def recommend_ids(
    fitted: FittedModel,
    ids: Any,
    k: int,
    *,
    exclude_seen: bool,
    candidates: Any,
    exclude: Any,
    device: torch.device,
) -> Ranking:
    """Return the ``k`` column ids with the highest predictions for every row id; scored on ``device``."""
    asked = _asked(ids)
    rows = fitted.row_ids.indices(asked)
    if exclude_seen and fitted.seen is None:
        raise ValueError(
            "`exclude_seen` must be False if the ratings were not kept; or fit with keep_ratings=True"
        )
    k = min(whole_number("k", k, least=1), fitted.model.shape[1])
    seen = fitted.seen if exclude_seen else None
    filters = {
        name: None if given is None else filter_indices(name, _asked(given, name), fitted.column_ids)
        for name, given in (("candidates", candidates), ("exclude", exclude))
    }
    best = recommend(fitted.two_factors.to(device), rows, k, seen=seen, **filters)
    warn_of_unknown("ids", asked, rows, "get the columns with the highest bias", stacklevel=4)
    columns, scores = best.columns.numpy(), fitted.predictor.clipped(best.scores.double().numpy())
    return ranking_of(fitted.column_ids, columns, np.where(columns >= 0, scores, -np.inf))


def similar_ids(fitted: FittedModel, ids: Any, k: int, axis: int, *, device: torch.device) -> Ranking:
    """Return the ``k`` other row ids (axis 0) or column ids that are most similar to each of ``ids``."""
    id_map, given = fitted.ids[axis], _asked(ids)
    positions = id_map.indices(given)
    if (positions < 0).any():
        unknown = raw.id_at(given, int((positions < 0).argmax()))
        raise ValueError(f"`ids` must be known {raw.SIDES[axis]} ids, got {unknown!r}")
    k = min(whole_number("k", k, least=1), max(1, len(id_map) - 1))
    similar = (similar_rows, similar_columns)[axis]
    best = similar(fitted.two_factors.to(device), positions, k)
    return ranking_of(id_map, best.indices.numpy(), best.similarities.double().numpy())


def ranking_of(id_map: IdMap, indices: NDArray[np.int64], scores: NDArray[np.float64]) -> Ranking:
    """Return the ranking of indices, shape ``(asked, k)``, where -1 means that there is no id.

    >>> ranking_of(IdMap(["ann", "bob"]), np.array([[1, -1]]), np.array([[0.5, -np.inf]])).ids.tolist()
    [['bob', None]]
    """
    ids = np.full(indices.shape, None, dtype=np.object_)
    there = indices >= 0
    found = id_map.ids_at(indices[there])
    ids[there] = found if isinstance(found, np.ndarray) else found.to_numpy(zero_copy_only=False)
    return Ranking(ids, scores)


def _asked(ids: Any, name: str = "ids") -> Any:
    """Return the ids of the argument ``name`` as a column."""
    if isinstance(ids, (str, bytes)) or not hasattr(ids, "__len__") or getattr(ids, "ndim", 1) != 1:
        raise TypeError(f"`{name}` must be a list or an array of ids, (asked,), got {ids!r}; write [{ids!r}]")
    return raw.read_ids(name, "id", ids)
