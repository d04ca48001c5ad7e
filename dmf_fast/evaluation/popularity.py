"""The popularity baseline of rankings."""

from __future__ import annotations

import numpy as np

from dmf_fast.evaluation.numbers import Integers
from dmf_fast.serving.seen_columns import SeenColumns
from dmf_fast.sharding import WHOLE, RowSharding


def column_counts(seen: SeenColumns, sharding: RowSharding = WHOLE) -> Integers:
    """Return the number of rows of all processes that each column has been seen in, ``(n,)``.

    >>> column_counts(SeenColumns.of_pairs([0, 1, 1], [1, 0, 1], (2, 3))).tolist()
    [1, 2, 0]
    """
    counts = np.bincount(seen.columns.numpy(), minlength=seen.shape[1]).astype(np.int64, copy=False)
    sharding.add_up_arrays([counts])
    return counts


class MostPopular:
    """Recommends the columns with the most training ratings that a row has not rated.

    >>> popular = MostPopular(SeenColumns.of_pairs([0, 1, 2, 2], [1, 1, 1, 0], (3, 2)))
    >>> popular.recommend(np.array([0, 2]), 2).tolist()
    [[0, -1], [-1, -1]]

    If processes share the rows, ``seen`` is that of the rows of this process, and ``sharding`` adds up the
    counts of all.
    """

    def __init__(self, seen: SeenColumns, sharding: RowSharding = WHOLE) -> None:
        import scipy.sparse  # here, since it is slow to import

        columns, counts = seen.columns.numpy(), column_counts(seen, sharding)
        # Ties go to the smaller index; columns without ratings are excluded.
        self._order = np.argsort(-counts, kind="stable")[: int((counts > 0).sum())]
        place = np.empty(seen.shape[1], dtype=np.int64)
        place[self._order] = np.arange(len(self._order))
        entries = np.ones(len(columns), dtype=np.bool_), place[columns], seen.offsets.numpy()
        self._seen = scipy.sparse.csr_array(entries, shape=seen.shape)

    def recommend(self, rows: Integers, count: int) -> Integers:
        """Return ``(len(rows), count)`` columns, int64, best first, padded with -1.

        A row of -1 is unknown and gets the most popular columns.
        """
        recommended = np.full((len(rows), count), -1, dtype=np.int64)
        # Only the most popular columns are considered, more of them for rows that have rated many of these.
        undone, window = np.arange(len(rows)), min(8 * count, len(self._order))
        while len(undone):
            unseen = self._unseen(rows[undone], window)
            enough = (unseen.sum(axis=1) >= count) | (window == len(self._order))
            best = np.argsort(~unseen[enough], axis=1, kind="stable")[:, :count]
            is_unseen = np.take_along_axis(unseen[enough], best, axis=1)
            recommended[undone[enough], : best.shape[1]] = np.where(is_unseen, self._order[best], -1)
            undone, window = undone[~enough], min(4 * window, len(self._order))
        return recommended

    def _unseen(self, rows: Integers, window: int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
        """Return which of the ``window`` most popular columns each row has not rated."""
        unseen: np.ndarray[tuple[int, int], np.dtype[np.bool_]] = ~self._seen[rows][:, :window].toarray()
        unseen[rows < 0] = True
        return unseen
