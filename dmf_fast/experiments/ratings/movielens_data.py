"""MovieLens 100K as observed entries: 943 users by 1682 films, ratings from 1 to 5.

Harper & Konstan, "The MovieLens Datasets: History and Context" (2015). It may not be redistributed, so it is
read from the user's copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dmf_fast.data import Ratings, ReadOptions, read_ratings
from dmf_fast.observations import Observations

SHAPE = (943, 1682)
NOT_HERE = "MovieLens 100K was not given; name its folder to test this."
"""The evidence of a claim whose data are missing."""


_OPTIONS = ReadOptions(dtype="float64", strict=True)


@dataclass(frozen=True)
class MovieLensSplit:
    """The official split ``u1``, float32, less the ``mean`` rating of ``u1.base``.

    ``train`` and ``validation`` are the parts of ``u1.base``, ``test`` is ``u1.test``.
    """

    train: Observations
    validation: Observations
    test: Observations
    mean: float


def read_some_ratings(folder: Path, count: int, seed: int) -> tuple[Observations, Observations]:
    """Return ``count`` random ratings of ``u.data`` and all others, scaled from 1 … 5 to 0 … 1, float32.

    Raises a `dmf_fast.data.DataError` if the file cannot be read.
    """
    ratings = read_ratings(folder / "u.data", _OPTIONS)
    lowest, highest = ratings.values.min(), ratings.values.max()
    is_drawn = np.zeros(len(ratings), dtype=bool)
    is_drawn[np.random.default_rng(seed).choice(len(ratings), count, replace=False)] = True
    scaled = (ratings.values - lowest) / (highest - lowest)
    drawn, others = (_observations(ratings, scaled, np.flatnonzero(mask)) for mask in (is_drawn, ~is_drawn))
    return drawn, others


def read_all_ratings(folder: Path) -> Observations:
    """Return all ratings of ``u.data``, float32; raise a `dmf_fast.data.DataError` if it cannot be read."""
    ratings = read_ratings(folder / "u.data", _OPTIONS)
    return _observations(ratings, ratings.values)


def read_u1(folder: Path, validation_fraction: float, seed: int) -> MovieLensSplit:
    """Return the split ``u1``, with a random part of ``u1.base`` for validation.

    Raises a `dmf_fast.data.DataError` if a file cannot be read.
    """
    base, test = (read_ratings(folder / name, _OPTIONS) for name in ("u1.base", "u1.test"))
    mean = float(base.values.mean())
    train, validation = _observations(base, base.values - mean).split(validation_fraction, seed)
    return MovieLensSplit(train, validation, _observations(test, test.values - mean), mean)


def _observations(ratings: Ratings, values: np.ndarray, chosen: np.ndarray | None = None) -> Observations:
    """Return all entries or the chosen ones; the ids of MovieLens 100K count from 1."""
    kept = slice(None) if chosen is None else chosen
    rows = ratings.row_ids.ids.to_numpy()[ratings.rows] - 1
    columns = ratings.column_ids.ids.to_numpy()[ratings.columns] - 1
    return Observations(rows[kept], columns[kept], values[kept], SHAPE, dtype=torch.float32)
