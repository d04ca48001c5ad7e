"""Observed entries from raw ids and ratings: for training, validation and later updates."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dmf_fast.data import IdMap, ReadOptions, as_ratings, id_map_of
from dmf_fast.estimator import ids as raw
from dmf_fast.estimator.inputs import Floats, IdColumns, as_frame, is_frame, read_rated_pairs, split_frame
from dmf_fast.observations import Observations
from dmf_fast.observations.duplicates import Duplicates

_NOTICEABLE = 1e-3
# Row id, column id and rating, without times or with them.
_COLUMNS_OF_TRIPLES = (3, 4)
IdMaps = tuple[IdMap, IdMap]
ValueType = Literal["float32", "float64"]


def training_entries(
    X: Any, y: Any, sample_weight: Any, duplicates: Duplicates, dtype: ValueType
) -> tuple[Observations, IdMaps]:
    """Return the entries to train on, of pairs or, if y is None, of a matrix; and their ids."""
    options = ReadOptions(dtype=dtype, strict=True)
    if y is None:
        ratings, weights = as_ratings(_matrix(X, sample_weight), options), None
        if not len(ratings):
            raise ValueError(
                f"`X` must hold at least one rating, got a matrix of shape {ratings.shape} without any"
            )
    else:
        (rows, columns), values, weights = read_rated_pairs(X, y, sample_weight)
        _check_precision(values, dtype)
        ratings = as_ratings((rows, columns, values), options)
    ids = ratings.row_ids, ratings.column_ids
    indices = np.stack([ratings.rows, ratings.columns])
    return _observations(indices, ratings.values, weights, ids, duplicates), ids


def validation_entries(
    given: Any, observed: Observations, ids: IdMaps, duplicates: Duplicates
) -> Observations | None:
    """Return validation ratings by index, without those whose ids were not trained on; None if none is left.

    ``given`` is ``(X, y)`` or a data frame.
    """
    given = as_frame(given)
    if not is_frame(given) and not (isinstance(given, tuple) and len(given) == 2):
        raise TypeError(
            f"`validation` must be a tuple (X, y) or a data frame with three columns, got "
            f"{type(given).__name__}"
        )
    try:
        pairs, values, _ = read_rated_pairs(*(split_frame(given) if is_frame(given) else given))
    except (TypeError, ValueError) as error:
        raise type(error)(f"`validation`: {error}") from error
    indices = _indices(pairs, ids)
    known = (indices[0] >= 0) & (indices[1] >= 0)
    if not known.all():
        warnings.warn(
            f"{(~known).sum()} of {len(known)} validation ratings have an id that X lacks; they are ignored.",
            UserWarning,
            stacklevel=3,
        )
    if not known.any():
        return None
    rows, columns = indices[:, known]
    return Observations(
        rows, columns, values[known], observed.shape, duplicates=duplicates, dtype=observed.dtype
    )


def known_entries(X: Any, y: Any, sample_weight: Any, ids: IdMaps, duplicates: Duplicates) -> Observations:
    """Return ratings of known ids, float64; a `ValueError` names the first unknown id."""
    pairs, values, weights = read_rated_pairs(X, y, sample_weight)
    indices = _indices(pairs, ids)
    for axis in (0, 1):
        _refuse_unknown(pairs, indices, axis)
    return _observations(indices, values, weights, ids, duplicates)


def fold_in_entries(
    X: Any, y: Any, sample_weight: Any, ids: IdMaps, axis: int, duplicates: Duplicates
) -> tuple[IdMap, Observations]:
    """Return the ids of new rows (axis 0) or columns (axis 1), and their ratings by index, float64.

    A `ValueError` names an id that is not new, or an unknown one on the other axis.
    """
    pairs, values, weights = read_rated_pairs(X, y, sample_weight)
    indices = _indices(pairs, ids)
    _refuse_unknown(pairs, indices, 1 - axis)
    if (indices[axis] >= 0).any():
        place, side = int((indices[axis] >= 0).argmax()), raw.SIDES[axis]
        raise ValueError(
            f"`X` must hold new {side} ids, got {raw.id_at(pairs[axis], place)!r} in X[{place}], which is "
            "known; pass its ratings to partial_fit"
        )
    new_ids = id_map_of(pairs[axis])
    indices[axis] = new_ids.indices(pairs[axis])
    entry_ids = (new_ids, ids[1]) if axis == 0 else (ids[0], new_ids)
    return new_ids, _observations(indices, values, weights, entry_ids, duplicates)


def _matrix(X: Any, sample_weight: Any) -> Any:
    """Return a matrix of ratings, sparse or as an array; an error if it could be pairs without ratings."""
    if X is None or isinstance(X, (str, bytes)):
        raise TypeError(f"`X` must be pairs of ids, a data frame or a matrix, got {X!r}")
    if sample_weight is not None:
        raise ValueError("`sample_weight` must be None where `X` is a matrix and `y` is None, got weights")
    if hasattr(X, "tocoo"):
        return X
    if isinstance(X, np.ma.MaskedArray):
        X = np.ma.filled(X.astype(np.float64), np.nan)
    try:
        array = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`X` must be a matrix of numbers where `y` is None, with NaN for missing entries: {error}; "
            "for pairs of ids, pass their ratings as `y`: of triples, the third column"
        ) from None
    _refuse_pairs_and_triples(array)
    return array


def _refuse_pairs_and_triples(array: Floats) -> None:
    """Raise a `ValueError` if an array could hold ids and ratings in its columns or rows."""
    if array.ndim != 2:
        return
    known = ~np.isnan(array)
    if array.shape[1] == 2 and known.all():
        raise ValueError(
            f"`y` must hold the ratings of pairs of ids, got None and an `X` of shape {array.shape}; a "
            "matrix of ratings with two columns can be given as a scipy.sparse matrix"
        )
    for table, lacks_no_id, turned in ((array, known[:, :2].all(), ""), (array.T, known.all(), ".T")):
        if table.shape[1] in _COLUMNS_OF_TRIPLES and lacks_no_id:
            raise ValueError(
                f"`X` must be unambiguous, got no `y` and an array of shape {array.shape}, whose first two "
                f"{'rows' if turned else 'columns'} may be ids; for ids and ratings call "
                f"fit(X{turned}[:, :2], X{turned}[:, 2]), for a matrix fit(scipy.sparse.coo_array(...))"
            )


def _check_precision(values: Floats, dtype: ValueType) -> None:
    """Raise a `ValueError` if values overflow ``dtype``, and warn if they lose most of their precision."""
    largest = int(np.abs(values).argmax())
    if abs(values[largest]) > np.finfo(dtype).max:
        raise ValueError(
            f"`y` must hold numbers that {dtype} can hold, got y[{largest}] = {values[largest]:g}; use "
            "dtype='float64'"
        )
    lost = np.abs(values - values.astype(dtype)).max()
    if 0 < np.ptp(values) < lost / _NOTICEABLE:
        warnings.warn(
            f"y is rounded to {dtype}, by up to {lost:g}, and has a range of {np.ptp(values):g}; subtract "
            "its mean, or use dtype='float64'.",
            UserWarning,
            stacklevel=4,
        )


def _observations(
    indices: NDArray[Any], values: NDArray[Any], weights: Any, ids: IdMaps, duplicates: Duplicates
) -> Observations:
    """Return the entries at ``indices``, ``(2, n)``; a `ValueError` names the ids of a repeated pair."""
    rows, columns = indices
    shape = len(ids[0]), len(ids[1])
    try:
        return Observations(rows, columns, values, shape, weights=weights, duplicates=duplicates)
    except ValueError as error:
        if "choose duplicates=" in str(error):
            _refuse_repeated(indices, ids, error)
        raise


def _refuse_repeated(indices: NDArray[Any], ids: IdMaps, error: ValueError) -> None:
    order = np.lexsort(indices)
    repeats = (indices[:, order[1:]] == indices[:, order[:-1]]).all(axis=0)
    second = int(order[1:][repeats].min())
    first = int((indices == indices[:, [second]]).all(axis=0).argmax())
    row, column = (ids[axis].ids_at([indices[axis, second]])[0] for axis in (0, 1))
    raise ValueError(
        f"`X` must hold each pair once, got ({row}, {column}) at positions {first} and {second} "
        f"({repeats.sum()} repeats in total); choose duplicates='first', 'last', 'mean' or 'sum'"
    ) from error


def _indices(pairs: IdColumns, ids: IdMaps) -> NDArray[np.int64]:
    """Return the indices of pairs, ``(2, n)``, -1 for unknown ids."""
    return np.stack([ids[axis].indices(pairs[axis]) for axis in (0, 1)])


def _refuse_unknown(pairs: IdColumns, indices: NDArray[np.int64], axis: int) -> None:
    unknown = indices[axis] < 0
    if unknown.any():
        place = int(unknown.argmax())
        raise ValueError(
            f"`X` must hold known {raw.SIDES[axis]} ids, got {raw.id_at(pairs[axis], place)!r} in X[{place}] "
            f"({unknown.sum()} such pairs); add new rows with fold_in(X, y), new columns with fold_in(X, y, "
            "axis=1), or fit again"
        )
