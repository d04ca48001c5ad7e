"""Ratings like those of MovieLens, divided for training, tuning and measuring."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bench.synthetic_ratings import movielens_like
from dmf_fast.evaluation import HeldOut

SIZES = {
    "1M": ((6040, 3706), 1_000_209),
    "10M": ((69878, 10677), 10_000_000),
    "100M": ((480189, 17770), 100_000_000),
}
"""Shape and number of entries."""


@dataclass(frozen=True)
class RatingsProblem:
    """Ratings to fit, to tune on and to measure on, by the same indices."""

    shape: tuple[int, int]
    train: HeldOut
    validation: HeldOut
    test: HeldOut

    @property
    def all_train(self) -> HeldOut:
        """The ratings of ``train`` and ``validation``, which the tuned library is fitted to."""
        parts = [(part.rows, part.columns, part.values) for part in (self.train, self.validation)]
        return HeldOut(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def ratings_problem(shape: tuple[int, int], entries: int, seed: int = 0) -> RatingsProblem:
    """Return ratings like those of MovieLens: 85.5 % train, 4.5 % validation, 10 % test."""
    rows, columns, values = movielens_like(shape, entries, seed)  # in a random order
    bounds = [0, entries // 10, entries // 10 + entries * 9 // 200, entries]
    test, validation, train = (
        HeldOut(rows[start:stop], columns[start:stop], values[start:stop]) for start, stop in pairwise(bounds)
    )
    return RatingsProblem(shape, train, validation, test)
