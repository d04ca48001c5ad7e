"""Random parts of the entries: splits that keep a training entry in every row, and partitions."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmf_fast.observations.layout import Indices

# How many more entries are drawn than are wanted, since some are the last of their row.
_MARGIN = 1000
# Below this fraction (1 / _FEW) of all positions, few of the draws are repeated.
_FEW = 4
_BLOCK = 1 << 22


def split_masks(
    rows: Indices, row_count: int, test_fraction: float, seed: int, count: int = 1
) -> list[NDArray[np.bool_]]:
    """Return the masks of ``count`` disjoint test parts; all other entries are for training.

    Test parts are filled with entries in random order, skipping the last entry of each row in that order:
    plain random splits, changed only where they would leave a row empty. If there are not enough entries,
    there are fewer parts, but at least one.
    """
    size, seed = _checked_size(test_fraction, len(rows)), _checked_seed(seed)
    may_leave = _may_leave(rows, row_count, seed, max(1, count) * size)
    masks = []
    for part in range(max(1, min(count, len(may_leave) // max(1, size)))):
        mask = np.zeros(len(rows), dtype=np.bool_)
        mask[may_leave[part * size : (part + 1) * size]] = True
        masks.append(mask)
    return masks


def partition_masks(nnz: int, count: int, seed: int) -> list[NDArray[np.bool_]]:
    """Return the masks of ``count`` random parts of all entries, whose sizes differ by at most one."""
    generator = torch.Generator().manual_seed(seed)
    of_entry = torch.randperm(nnz, generator=generator, device="cpu").remainder_(count).numpy()
    return [of_entry == part for part in range(count)]


def chosen(numbers: Tensor, mask: NDArray[np.bool_]) -> Tensor:
    """Return the numbers where the mask is True; NumPy is twice as fast as torch, but lacks bfloat16."""
    if numbers.device.type == "cpu" and numbers.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(numbers.numpy()[mask])
    return numbers[torch.from_numpy(mask).to(numbers.device)]


def _may_leave(rows: Indices, row_count: int, seed: int, wanted: int) -> NDArray[np.int64]:
    """Return at least ``wanted`` entries, if there are enough, in random order, without the last of each row.

    Only as many as needed are drawn: the last entry of a row is recognized by the count of those before it.
    """
    entries_of = _counts(rows, row_count)
    drawn = wanted + _MARGIN
    while True:
        order = random_order(len(rows), drawn, seed)
        rows_in_order = rows[order]
        last_of_row = np.empty(row_count, dtype=np.int64)
        last_of_row[rows_in_order] = np.arange(len(order))  # of repeated assignments NumPy keeps the last
        emptied = np.bincount(rows_in_order, minlength=row_count) == entries_of
        may_leave = np.ones(len(order), dtype=np.bool_)
        may_leave[last_of_row[emptied & (entries_of > 0)]] = False
        found = order[may_leave]
        if len(found) >= wanted or len(order) == len(rows):
            return found
        drawn *= 2


def _counts(rows: Indices, row_count: int) -> NDArray[np.int64]:
    """Return the number of entries of each row, blockwise, since `numpy.bincount` makes an int64 copy."""
    counts = np.zeros(row_count, dtype=np.int64)
    for begin in range(0, len(rows), _BLOCK):
        counts += np.bincount(rows[begin : begin + _BLOCK], minlength=row_count)
    return counts


def random_order(count: int, first: int, seed: int) -> NDArray[np.int64]:
    """Return the first ``first`` elements of a random permutation of ``range(count)``, or all of it.

    If ``first`` is small, it draws until it has enough distinct numbers, instead of permuting all.

    >>> sorted(random_order(4, 9, seed=0).tolist())
    [0, 1, 2, 3]
    """
    generator = torch.Generator().manual_seed(seed)
    if first >= count // _FEW:
        return torch.randperm(count, generator=generator, device="cpu").numpy()[:first]
    size = first + first // _FEW + _MARGIN
    drawn = torch.randint(count, (size,), generator=generator, device="cpu").numpy()
    by_place = np.argsort(drawn, kind="stable")
    is_first = np.ones(len(drawn), dtype=np.bool_)
    is_first[by_place[1:]] = drawn[by_place[1:]] != drawn[by_place[:-1]]
    return drawn[is_first][:first]


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
