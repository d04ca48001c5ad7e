"""Entries that were given more than once, and the policies for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmf_fast.layout import Indices
from dmf_fast.validation import check_finite

Duplicates = Literal["error", "first", "last", "mean", "sum"]


@dataclass(frozen=True, eq=False)
class Entries:
    """Checked entries in the caller's order; every array is ``(nnz,)``."""

    rows: Indices
    columns: Indices
    values: Tensor
    weights: Tensor | None


def check_policy(policy: str) -> None:
    """Refuse an unknown policy."""
    if policy not in get_args(Duplicates):
        names = ", ".join(repr(name) for name in get_args(Duplicates))
        raise ValueError(f"duplicates must be one of {names}, got {policy!r}")


def merge_duplicates(entries: Entries, shape: tuple[int, int], policy: Duplicates) -> Entries:
    """Return entries in which every pair occurs once, in the order of the entries that were kept."""
    if not _any_duplicates(entries.rows, entries.columns, shape):
        return entries
    order = np.lexsort((entries.columns, entries.rows))  # stable: a pair's entries stay in their order
    rows, columns = entries.rows[order], entries.columns[order]
    repeats = np.concatenate([[False], (rows[1:] == rows[:-1]) & (columns[1:] == columns[:-1])])
    if policy == "error":
        raise ValueError(_first_duplicate(entries, order, repeats))
    if policy == "first":
        return _take(entries, np.sort(order[~repeats]))
    if policy == "last":
        return _take(entries, np.sort(order[~np.append(repeats[1:], False)]))
    return _combine(entries, order, np.flatnonzero(~repeats), policy)


def _any_duplicates(rows: Indices, columns: Indices, shape: tuple[int, int]) -> bool:
    cells = shape[0] * shape[1]
    if cells >= 2**63:
        order = np.lexsort((columns, rows))
        rows, columns = rows[order], columns[order]
        return bool(((rows[1:] == rows[:-1]) & (columns[1:] == columns[:-1])).any())
    keys = np.empty(len(rows), dtype=np.uint32 if cells <= 2**32 else np.int64)
    np.multiply(rows, shape[1], out=keys, dtype=keys.dtype, casting="unsafe")
    np.add(keys, columns, out=keys, dtype=keys.dtype, casting="unsafe")
    keys.sort()
    return bool((keys[1:] == keys[:-1]).any())


def _first_duplicate(entries: Entries, order: NDArray[np.intp], repeats: NDArray[np.bool_]) -> str:
    repeated = np.flatnonzero(repeats)
    # The smallest position that repeats a pair stands right behind the pair's first one.
    place = repeated[np.argmin(order[repeated])]
    first, second = order[place - 1], order[place]
    pair = (int(entries.rows[first]), int(entries.columns[first]))
    return (
        f"rows and columns must name every pair once, got {pair} at positions {first} and {second} "
        f"({len(repeated)} repeated in all); choose duplicates='first', 'last', 'mean' or 'sum'"
    )


def _take(entries: Entries, positions: NDArray[np.intp]) -> Entries:
    chosen = torch.from_numpy(positions)
    weights = None if entries.weights is None else entries.weights[chosen]
    return Entries(entries.rows[positions], entries.columns[positions], entries.values[chosen], weights)


def _combine(entries: Entries, order: NDArray[np.intp], starts: NDArray[np.intp], policy: Duplicates) -> Entries:
    """Return one entry for each run of ``order`` that begins at ``starts``, summed in float64."""
    values = entries.values.to(torch.float64).numpy()[order]
    weights = None if entries.weights is None else entries.weights.to(torch.float64).numpy()[order]
    with np.errstate(over="ignore", invalid="ignore"):
        if policy == "sum":
            combined, combined_weights = np.add.reduceat(values, starts), weights
            if weights is not None:
                combined_weights = _common_weights(entries, weights, order, starts)
        else:
            combined, combined_weights = _means(values, weights, starts)
    first = order[starts]
    by_first = np.argsort(first)
    merged = _take(entries, first[by_first])
    dtype = entries.values.dtype
    sums = torch.from_numpy(combined[by_first])
    check_finite("values", sums.to(dtype), sums)
    if combined_weights is None:
        return replace(merged, values=sums.to(dtype))
    summed_weights = torch.from_numpy(combined_weights[by_first])
    check_finite("weights", summed_weights.to(dtype), summed_weights)
    return replace(merged, values=sums.to(dtype), weights=summed_weights.to(dtype))


def _means(
    values: NDArray[Any], weights: NDArray[Any] | None, starts: NDArray[np.intp]
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return weighted means and summed weights; where all weights of a pair are 0, the plain mean."""
    counts = np.diff(np.append(starts, len(values)))
    means = np.add.reduceat(values, starts) / counts
    if weights is None:
        return means, None
    totals = np.add.reduceat(weights, starts)
    np.divide(np.add.reduceat(weights * values, starts), totals, out=means, where=totals > 0)
    return means, totals


def _common_weights(
    entries: Entries, weights: NDArray[Any], order: NDArray[np.intp], starts: NDArray[np.intp]
) -> NDArray[Any]:
    """Return the weight that all entries of a pair share."""
    smallest, largest = np.minimum.reduceat(weights, starts), np.maximum.reduceat(weights, starts)
    differing = np.flatnonzero(smallest != largest)
    if len(differing) > 0:
        run = differing[np.argmin(order[starts[differing]])]
        first = order[starts[run]]
        pair = (int(entries.rows[first]), int(entries.columns[first]))
        raise ValueError(
            f"weights of repeated pairs must agree with duplicates='sum', got {smallest[run]:g} and "
            f"{largest[run]:g} for {pair}, first at position {first}; choose duplicates='mean' or sum them first"
        )
    return smallest
