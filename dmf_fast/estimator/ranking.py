"""The best ids, best first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dmf_fast.data import IdMap


class Ranking(NamedTuple):
    """The best ids for every one that was asked for, best first.

    ``ids``: ``(asked, k)``, objects; None where there are fewer. ``scores``: ``(asked, k)``, float64; minus
    infinity beside None.
    """

    ids: NDArray[np.object_]
    scores: NDArray[np.float64]


def ranking_of(id_map: IdMap, indices: NDArray[np.int64], scores: NDArray[np.float64]) -> Ranking:
    """Return a ranking of indices, ``(asked, k)``, of which -1 stands for none.

    >>> ranking_of(IdMap(["ann", "bob"]), np.array([[1, -1]]), np.array([[0.5, -np.inf]])).ids.tolist()
    [['bob', None]]
    """
    ids = np.full(indices.shape, None, dtype=np.object_)
    there = indices >= 0
    found = id_map.ids_at(indices[there])
    ids[there] = found if isinstance(found, np.ndarray) else found.to_numpy(zero_copy_only=False)
    return Ranking(ids, scores)
