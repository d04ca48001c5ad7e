"""Splits into training and test entries: k-fold, by time, and the last entries of each row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dmf_fast.checks import whole_number
from dmf_fast.evaluation.numbers import Integers
from dmf_fast.observations import Observations
from dmf_fast.observations.validation import check_length, read_any_array


@dataclass(frozen=True, eq=False)
class Split:
    """A training and a test part, each in the original order; it unpacks into the two.

    ``train_positions`` and ``test_positions``, int64, are the positions of their entries in the original, to
    select times or ids accordingly.

    >>> train, test = next(kfold(Observations([0, 1, 2], [0, 0, 1], [1.0, 2.0, 3.0]), 3, seed=0))
    >>> len(train), len(test)
    (2, 1)
    """

    train: Observations
    test: Observations
    train_positions: Integers
    test_positions: Integers

    def __iter__(self) -> Iterator[Observations]:
        """Yield the training and the test part."""
        return iter((self.train, self.test))


def kfold(observations: Observations, folds: int, seed: int) -> Iterator[Split]:
    """Return ``folds`` random splits such that each entry is in exactly one test part.

    The sizes of the test parts differ by at most one. The same seed gives the same folds for every dtype,
    device and number of threads. All entries of a row may be in one test part; `evaluate` reports such cold
    rows separately. Errors of folds are combined by adding `RatingErrors`.

    Args:
        observations: the entries to split; weights stay with their entries.
        folds: from 2 to the number of entries.
        seed: in [0, 2**63).

    Raises:
        TypeError: ``folds`` or ``seed`` is not an integer.
        ValueError: ``folds`` or ``seed`` is out of range, or there are fewer than 2 entries.

    Example:
        >>> observations = Observations([0, 0, 1, 1, 1], [0, 1, 0, 1, 2], [1.0, 2.0, 3.0, 4.0, 5.0])
        >>> [len(split.test) for split in kfold(observations, 2, seed=0)]
        [3, 2]

    """
    if len(observations) < 2:
        raise ValueError(f"`observations` must hold at least 2 entries to split, got {len(observations)}")
    folds = whole_number("folds", folds, least=2, most=len(observations))
    seed = whole_number("seed", seed, least=0, most=2**63 - 1)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(observations), generator=generator, device="cpu").numpy()
    fold_of = np.empty(len(order), dtype=np.int64)
    fold_of[order] = np.arange(len(order)) % folds
    return (_split(observations, fold_of == fold) for fold in range(folds))


def time_split(observations: Observations, times: Any, fraction: float) -> Split:
    """Split by time, with the latest entries as the test part, as for a model in use.

    Args:
        observations: the entries to split.
        times: ``(nnz,)`` integers, floating-point numbers or datetime64, in the order of the entries, which
            breaks ties.
        fraction: in [0, 1]; the test part has ``round(fraction * nnz)`` entries.

    Raises:
        TypeError: ``times`` have another dtype, or ``fraction`` is not a number.
        ValueError: lengths differ, a time is missing, or ``fraction`` is outside [0, 1].

    Example:
        >>> observations = Observations([0, 0, 1, 1], [0, 1, 0, 1], [1.0, 2.0, 3.0, 4.0])
        >>> time_split(observations, [4, 1, 2, 3], 0.5).test_positions.tolist()
        [0, 3]

    """
    if not isinstance(fraction, (int, float)) or isinstance(fraction, bool):
        raise TypeError(f"`fraction` must be a number in [0, 1], got {fraction!r}")
    if not 0 <= fraction <= 1:
        raise ValueError(f"`fraction` must be in [0, 1], got {fraction}; 0.1 tests on the latest tenth")
    order = np.argsort(_read_times(times, len(observations)), kind="stable")
    in_test = np.zeros(len(order), dtype=np.bool_)
    in_test[order[len(order) - round(fraction * len(order)) :]] = True
    return _split(observations, in_test)


def leave_last_out(observations: Observations, times: Any = None, count: int = 1) -> Split:
    """Split off the last ``count`` entries of each row as the test part; each row keeps at least one.

    Args:
        observations: the entries to split.
        times: as for `time_split`; None if the entries are ordered by time.
        count: number of test entries of a row; of a row with fewer than ``count + 1`` entries all but the
            first are test entries.

    Raises:
        TypeError, ValueError: as for `time_split`, or ``count`` is not an integer or below 1.

    Example:
        >>> observations = Observations([0, 1, 0, 0], [0, 0, 1, 2], [1.0, 2.0, 3.0, 4.0])
        >>> leave_last_out(observations, [7, 9, 8, 5]).test_positions.tolist()
        [2]

    """
    count = whole_number("count", count, least=1)
    rows: Integers = observations.rows.cpu().numpy()
    if times is None:
        order = np.argsort(rows, kind="stable")
    else:
        order = np.lexsort((_read_times(times, len(observations)), rows))
    lengths = np.bincount(rows)  # of rows up to the last nonempty one
    from_end = np.empty(len(rows), dtype=np.int64)
    from_end[order] = np.cumsum(lengths)[rows[order]] - 1 - np.arange(len(rows))
    return _split(observations, from_end < np.minimum(count, lengths[rows] - 1))


def _split(observations: Observations, in_test: NDArray[np.bool_]) -> Split:
    train, test = (observations.select(mask) for mask in (~in_test, in_test))
    return Split(train, test, np.flatnonzero(~in_test), np.flatnonzero(in_test))


def _read_times(given: Any, length: int) -> NDArray[Any]:
    times = np.asarray(read_any_array("times", given))
    if times.dtype.kind not in "iufM":
        raise TypeError(
            f"`times` must hold integers, floating-point numbers or datetime64, got {times.dtype}"
        )
    if times.ndim != 1:
        raise ValueError(f"`times` must be one-dimensional, got shape {times.shape}; use .ravel()")
    check_length("times", len(times), length)
    missing = np.isnat(times) if times.dtype.kind == "M" else np.isnan(times)
    if missing.any():
        raise ValueError(
            f"`times` must not be missing, got times[{int(missing.argmax())}] missing; drop such entries"
        )
    return times
