"""Raw ids, values and weights from X, y and sample_weight in any container."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.utils import column_or_1d

from dmf_fast.data import DataError
from dmf_fast.data.column_choice import choose_columns
from dmf_fast.data.frames import collected
from dmf_fast.estimator.ids import read_ids, select

Floats = NDArray[np.float64]
IdColumns = tuple[Any, Any]
"""Row ids and column ids: two columns as `read_ids` returns them."""
_LARGEST = 1e140
_PAIRS = "`X` must have shape (n, 2), a row id and a column id per rating"


def as_frame(X: Any) -> Any:
    """Return a table of any kind as a pandas data frame or a pyarrow table; other objects unchanged."""
    X = collected(X)
    if not isinstance(X, dict) or hasattr(X, "tocoo"):  # SciPy's dictionary of keys is a matrix
        return X
    try:
        return pa.table(X)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ValueError(
            f"`X` must hold columns of the same length, each of one type, but {error}"
        ) from error


def is_frame(X: Any) -> bool:
    """Return whether X is a pandas data frame or a pyarrow table."""
    return hasattr(X, "columns") and hasattr(X, "shape")


def split_ratings(X: Any, y: Any) -> tuple[Any, Any]:
    """Split a table that holds ids and ratings into the two; return other arguments unchanged."""
    X = as_frame(X)
    return split_frame(X) if y is None and is_frame(X) else (X, y)


def split_frame(frame: Any) -> tuple[Any, Any]:
    """Return the two id columns of a frame of ratings, as a frame, and its column of ratings.

    They are recognized by common names, such as ``user``, ``item`` and ``rating``, or are the first three.
    """
    if getattr(getattr(frame, "index", None), "nlevels", 1) > 1:
        frame = frame.reset_index()
    names = frame.column_names if isinstance(frame, pa.Table) else [str(name) for name in frame.columns]
    if len(names) < 3:
        raise ValueError(
            f"`X` must have three columns (row ids, column ids, ratings) if `y` is None, got "
            f"{', '.join(names)}; pass the ratings as `y`"
        )
    try:
        *ids, rating = choose_columns("X", names, len(names), None, 3)
    except DataError as error:
        raise ValueError(
            "`X` must have columns with common names of row ids, column ids and ratings if `y` is None, "
            f"got {', '.join(names)}; pass the two columns of ids as `X` and the ratings as `y`, or, if the "
            "frame is the matrix of ratings itself, pass X.to_numpy()"
        ) from error
    if isinstance(frame, pa.Table):
        return frame.select(ids), frame.column(rating)
    return frame.iloc[:, ids], frame.iloc[:, rating]


def read_pairs(X: Any) -> IdColumns:
    """Return the pairs of X: an array, a data frame or a list of shape ``(n, 2)``.

    Raises:
        ValueError: X has another shape, is sparse, or an id is missing.
        TypeError: an id is not hashable.

    Example:
        >>> rows, columns = read_pairs([("ann", 7), ("bob", 9)])
        >>> rows.to_pylist(), columns.to_pylist()
        (['ann', 'bob'], [7, 9])

    """
    if hasattr(X, "tocoo"):
        raise ValueError(
            "`X` must hold pairs (row id, column id), got a sparse matrix; pass a matrix of ratings to fit, "
            "with y=None"
        )
    _refuse_mask("X", X)
    rows, columns = _two_columns(X)
    return read_ids("X", "row id", rows), read_ids("X", "column id", columns)


def read_rated_pairs(X: Any, y: Any, sample_weight: Any = None) -> tuple[IdColumns, Floats, Floats | None]:
    """Return pairs, their ratings and their positive weights, shape ``(n,)`` both; None for weights of 1.

    Pairs of weight 0 are left out. Raises a `ValueError` or a `TypeError` if lengths differ or if X, y or the
    weights are invalid.
    """
    pairs = read_pairs(X)
    values = _numbers("y", y, len(pairs[0]))
    if sample_weight is None:
        return pairs, values, None
    weights = _numbers("sample_weight", sample_weight, len(values))
    if (weights < 0).any():
        place = int((weights < 0).argmax())
        raise ValueError(f"`sample_weight` must be at least 0, got sample_weight[{place}] = {weights[place]}")
    counts = weights > 0
    if not counts.any():
        raise ValueError("`sample_weight` must hold a weight above 0, got zeros only")
    if not counts.all():
        pairs = select(pairs[0], counts), select(pairs[1], counts)
    return pairs, values[counts], weights[counts]


def _two_columns(X: Any) -> tuple[Any, Any]:
    if is_frame(X):
        _check_width(tuple(X.shape))
        is_arrow = isinstance(X, pa.Table)
        first, second = X.column_names if is_arrow else X.columns
        if first == second:  # scikit-learn could not keep them as feature names
            raise ValueError(f"`X` must have columns of different names, got {first!r} twice; rename one")
        return tuple(X.columns) if is_arrow else (X.iloc[:, 0], X.iloc[:, 1])
    if isinstance(X, (list, tuple)):
        return _two_columns_of_list(X)
    array = np.asarray(X)
    if array.dtype.kind == "c":
        raise ValueError(
            "`X` must hold ids. Complex data not supported; convert them to text, for example with str"
        )
    if array.ndim != 2:
        raise ValueError(
            f"{_PAIRS}, got an array of {array.ndim} dimensions. Reshape your data: X.reshape(-1, 2)"
        )
    _check_width(array.shape)
    return array[:, 0], array[:, 1]


def _two_columns_of_list(X: list[Any] | tuple[Any, ...]) -> tuple[list[Any], list[Any]]:
    """Return the columns of a list of pairs, whose ids keep their types."""
    alike = all(hasattr(pair, "__len__") and not isinstance(pair, (str, bytes)) for pair in X)
    widths = {len(pair) for pair in X} if alike else set()
    if not alike or len(widths) > 1:
        raise ValueError("`X` must be a list of pairs (row id, column id), got a list of something else")
    _check_width((len(X), *widths) if widths else (0, 2))
    rows, columns = ([pair[side] for pair in X] for side in (0, 1))
    return rows, columns


def _check_width(shape: tuple[int, ...]) -> None:
    count, width = shape
    if count == 2 and width != 2:
        raise ValueError(f"{_PAIRS}, got the shape {shape}; it may be transposed: pass X.T")
    if width < 2:
        raise ValueError(
            f"{_PAIRS}: found array with {width} feature(s) (shape={shape}) while a minimum of 2 is required."
        )
    if width > 2:
        raise ValueError(
            f"{_PAIRS}: X has {width} features in {count} sample(s), but MatrixCompleter is expecting 2 "
            "features as input; choose two columns, or pass a matrix of ratings to fit without `y`"
        )
    if count == 0:
        raise ValueError(
            f"`X` must hold at least one pair: found array with 0 sample(s) (shape={shape}) while a "
            "minimum of 1 is required"
        )


def _refuse_mask(name: str, given: Any) -> None:
    if np.ma.is_masked(given):
        raise ValueError(f"`{name}` must not be masked, got masked numbers; leave such pairs out")


def _numbers(name: str, given: Any, length: int) -> Floats:
    _refuse_mask(name, given)
    array = column_or_1d(given, warn=True)
    if array.dtype.kind == "c":
        raise ValueError(f"`{name}` must hold real numbers. Complex data not supported")
    try:
        numbers: Floats = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must hold numbers: {error}") from None
    if len(numbers) != length:
        raise ValueError(
            f"`{name}` must hold a number for each of the {length} pairs of X, got {len(numbers)}: "
            "inconsistent numbers of samples"
        )
    finite = np.isfinite(numbers)
    if not finite.all():
        place = int((~finite).argmax())
        raise ValueError(f"`{name}` must be finite, got {name}[{place}] = {numbers[place]} (NaN or infinity)")
    if np.abs(numbers).max(initial=0.0) > _LARGEST:
        raise ValueError(
            f"`{name}` must be at most {_LARGEST:g} in size, got {np.abs(numbers).max():g}; rescale it"
        )
    return numbers
