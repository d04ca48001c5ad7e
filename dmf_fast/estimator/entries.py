"""From raw ids and ratings to observed entries by index: to train on, to validate with, to take up later."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dmf_fast.data import IdMap, Ratings, ReadOptions, as_ratings, id_map_of
from dmf_fast.estimator.fitted import FittedMatrix
from dmf_fast.estimator.inputs import (
    SIDES,
    Floats,
    GivenRatings,
    Pairs,
    is_frame,
    read_given_ratings,
    split_frame,
)
from dmf_fast.estimator.raw_ids import id_at, known_positions
from dmf_fast.observations import Observations
from dmf_fast.observations.duplicates import Duplicates

_NOTICEABLE = 1e-3
ValueType = Literal["float32", "float64"]


@dataclass(frozen=True, eq=False)
class TrainingEntries:
    """Observed entries with the ids of their rows and columns."""

    observed: Observations
    ids: tuple[IdMap, IdMap]


def training_entries(
    X: Any, y: Any, sample_weight: Any, duplicates: Duplicates, dtype: ValueType
) -> TrainingEntries:
    """Return what to train on: ratings of pairs, or, where y is None, those of a matrix."""
    options = ReadOptions(dtype=dtype, strict=True)
    if y is None:
        ratings, weights = as_ratings(_matrix(X, sample_weight), options), None
        if not len(ratings):
            raise ValueError(f"X must hold a rating, but the matrix of shape {ratings.shape} has none.")
    else:
        given = read_given_ratings(X, y, sample_weight)
        _check_precision(given.values, dtype)
        ratings = as_ratings((given.pairs.rows, given.pairs.columns, given.values), options)
        weights = given.weights
    return TrainingEntries(_observations(ratings, weights, duplicates), (ratings.row_ids, ratings.column_ids))


def validation_entries(given: Any, train: TrainingEntries, duplicates: Duplicates) -> Observations | None:
    """Return ``(X, y)`` or a data frame by index; pairs with an id that the training lacks are left out."""
    if not is_frame(given) and not (isinstance(given, tuple) and len(given) == 2):
        raise TypeError(
            "validation must be a tuple (X, y), or a data frame with three columns, but another came."
        )
    try:
        ratings = read_given_ratings(*(split_frame(given) if is_frame(given) else given))
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation is not as it must be: {error}") from error
    positions = _positions(ratings.pairs, train.ids)
    known = (positions[0] >= 0) & (positions[1] >= 0)
    if not known.all():
        warnings.warn(
            f"{(~known).sum()} of {len(known)} validation ratings have an id that X lacks, and are left out.",
            UserWarning,
            stacklevel=3,
        )
    if not known.any():
        return None
    return Observations(
        positions[0, known],
        positions[1, known],
        ratings.values[known],
        train.observed.shape,
        duplicates=duplicates,
        dtype=train.observed.dtype,
    )


def known_entries(
    X: Any, y: Any, sample_weight: Any, fitted: FittedMatrix, duplicates: Duplicates
) -> Observations:
    """Return ratings of known ids, float64; a `ValueError` names an id that is not known."""
    given = read_given_ratings(X, y, sample_weight)
    positions = _positions(given.pairs, fitted.ids)
    for axis in (0, 1):
        _refuse_unknown(given.pairs, positions, axis)
    return _entries_at(positions, given, fitted.model.shape, duplicates)


def fold_in_entries(
    X: Any, y: Any, sample_weight: Any, fitted: FittedMatrix, axis: int, duplicates: Duplicates
) -> tuple[IdMap, Observations]:
    """Return the ids of new rows (axis 0) or columns, and their ratings by the indices of these, float64.

    A `ValueError` names an id that is known already, or one of the other side that is not.
    """
    given = read_given_ratings(X, y, sample_weight)
    positions = _positions(given.pairs, fitted.ids)
    _refuse_unknown(given.pairs, positions, 1 - axis)
    if (positions[axis] >= 0).any():
        place = int((positions[axis] >= 0).argmax())
        raise ValueError(
            f"fold_in adds new {SIDES[axis]}s, but the {SIDES[axis]} id {id_at(given.pairs[axis], place)!r} "
            f"of X[{place}] is known already; give its ratings to partial_fit."
        )
    new_ids = id_map_of(given.pairs[axis])
    positions[axis] = new_ids.indices(given.pairs[axis])
    shape = list(fitted.model.shape)
    shape[axis] = len(new_ids)
    return new_ids, _entries_at(positions, given, (shape[0], shape[1]), duplicates)


def _matrix(X: Any, sample_weight: Any) -> Any:
    """Return a matrix of ratings, sparse or as an array; pairs without ratings are refused."""
    if X is None or isinstance(X, (str, bytes)):
        raise TypeError(f"X must be pairs of ids, a data frame or a matrix, but {X!r} came.")
    if sample_weight is not None:
        raise ValueError("sample_weight goes with pairs of ids and y, but X is a matrix and y is None.")
    if hasattr(X, "tocoo"):
        return X
    if isinstance(X, np.ma.MaskedArray):
        X = np.ma.filled(X.astype(np.float64), np.nan)
    try:
        array = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"y is None, so X must be a matrix of numbers, NaN where there is none, but {error}; pairs of "
            "ids need their ratings as y."
        ) from None
    if array.ndim == 2 and array.shape[1] == 2 and not np.isnan(array).any():
        raise ValueError(
            f"X has the shape {array.shape} and y is None: pairs of ids need their ratings as y. (A matrix "
            "of ratings that has two columns can be given as a scipy.sparse matrix.)"
        )
    return array


def _check_precision(values: Floats, dtype: ValueType) -> None:
    """Refuse values that are too large for float32, and say where it loses all that tells them apart."""
    largest = int(np.abs(values).argmax())
    if abs(values[largest]) > np.finfo(dtype).max:
        raise ValueError(
            f"y[{largest}] is {values[largest]:g}, which {dtype} cannot hold; take dtype='float64'."
        )
    lost = np.abs(values - values.astype(dtype)).max()
    if 0 < np.ptp(values) < lost / _NOTICEABLE:
        warnings.warn(
            f"y is rounded to {dtype}, by up to {lost:g} where it spreads over {np.ptp(values):g}; subtract "
            "its mean, or take dtype='float64'.",
            UserWarning,
            stacklevel=4,
        )


def _observations(ratings: Ratings, weights: Any, duplicates: Duplicates) -> Observations:
    entries = ratings.rows, ratings.columns, ratings.values, ratings.shape
    try:
        return Observations(*entries, weights=weights, duplicates=duplicates)
    except ValueError as error:
        _refuse_repeated(ratings.rows, ratings.columns, ratings.pair_text, error)
        raise


def _entries_at(
    positions: NDArray[np.int64], given: GivenRatings, shape: tuple[int, int], duplicates: Duplicates
) -> Observations:
    def pair_text(place: int) -> str:
        return f"({id_at(given.pairs.rows, place)}, {id_at(given.pairs.columns, place)})"

    entries = positions[0], positions[1], given.values, shape
    try:
        return Observations(*entries, weights=given.weights, duplicates=duplicates, dtype=torch.float64)
    except ValueError as error:
        _refuse_repeated(positions[0], positions[1], pair_text, error)
        raise


def _refuse_repeated(
    rows: NDArray[Any], columns: NDArray[Any], pair_text: Callable[[int], str], error: ValueError
) -> None:
    """Raise a `ValueError` that names the ids, where it is a repeated pair that ``error`` is about."""
    if "choose duplicates=" not in str(error):
        return
    pairs = np.stack([rows, columns])
    order = np.lexsort(pairs)
    repeats = (pairs[:, order[1:]] == pairs[:, order[:-1]]).all(axis=0)
    second = int(order[1:][repeats].min())
    first = int((pairs == pairs[:, [second]]).all(axis=0).argmax())
    raise ValueError(
        f"X must hold every pair once, but {pair_text(second)} stands at positions {first} and {second} "
        f"({repeats.sum()} repeated in all); choose duplicates='first', 'last', 'mean' or 'sum'."
    ) from error


def _positions(pairs: Pairs, ids: tuple[IdMap, IdMap]) -> NDArray[np.int64]:
    """Return the indices of pairs, ``(2, n)``, -1 for unknown ids."""
    return np.stack([known_positions(pairs[side], ids[side]) for side in (0, 1)])


def _refuse_unknown(pairs: Pairs, positions: NDArray[np.int64], axis: int) -> None:
    unknown = positions[axis] < 0
    if unknown.any():
        place = int(unknown.argmax())
        raise ValueError(
            f"The {SIDES[axis]} id {id_at(pairs[axis], place)!r} of X[{place}] is not known ({unknown.sum()} "
            "such pairs): add new rows with fold_in(X, y), new columns with fold_in(X, y, axis=1), or fit "
            "again."
        )
