"""Random splits that leave no row without a training entry."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dmf_fast.observations.layout import Indices


def split_masks(
    rows: Indices, row_count: int, test_fraction: float, seed: int, count: int = 1
) -> list[NDArray[np.bool_]]:
    """Return which entries are test entries of ``count`` disjoint test parts; the others train.

    Entries go to the test parts in a random order, except the last of each row in that order, until each
    part is full: plain random splits, changed only where they would empty a row. Where the entries do not
    suffice there are fewer parts, but one in any case.
    """
    size, seed = _checked_size(test_fraction, len(rows)), _checked_seed(seed)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).numpy()
    last_of_row = np.empty(row_count, dtype=np.int64)
    shuffled = rows[order]
    last_of_row[shuffled] = np.arange(len(rows))  # NumPy keeps the last of repeated assignments
    may_leave = order[last_of_row[shuffled] != np.arange(len(rows))]
    masks = []
    for part in range(max(1, min(count, len(may_leave) // max(1, size)))):
        mask = np.zeros(len(rows), dtype=np.bool_)
        mask[may_leave[part * size : (part + 1) * size]] = True
        masks.append(mask)
    return masks


def _checked_size(test_fraction: Any, nnz: int) -> int:
    try:
        fraction = float(test_fraction)
    except (TypeError, ValueError):
        raise TypeError(f"`test_fraction` must be a number in [0, 1], got {test_fraction!r}") from None
    if not (math.isfinite(fraction) and 0 <= fraction <= 1):
        raise ValueError(f"`test_fraction` must be in [0, 1], got {fraction}; 0.2 tests on a fifth")
    return round(fraction * nnz)


def _checked_seed(seed: Any) -> int:
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"`seed` must be an integer, got {seed!r}") from None
    if not 0 <= number < 2**63:
        raise ValueError(f"`seed` must be from 0 to 2**63 - 1, got {number}")
    return number
