"""Policies for entries that are given more than once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmf_fast import _native
from dmf_fast.observations.compression import pair_keys
from dmf_fast.observations.layout import Indices

# The fast check takes memory per row and column; it is used if these exceed the entries by at most this many.
_MOST_LINES = 1 << 20

Duplicates = Literal["error", "first", "last", "mean", "sum"]


@dataclass(frozen=True, eq=False)
class Entries:
    """Checked entries of a matrix of ``shape``, in the caller's order; every array is ``(nnz,)``."""

    rows: Indices
    columns: Indices
    shape: tuple[int, int]
    values: Tensor
    weights: Tensor | None


def check_policy(policy: str) -> None:
    """Raise a `ValueError` for an unknown policy."""
    if policy not in get_args(Duplicates):
        names = ", ".join(repr(name) for name in get_args(Duplicates))
        raise ValueError(f"`duplicates` must be one of {names}, got {policy!r}")


def merge_duplicates(entries: Entries, policy: Duplicates) -> Entries:
    """Return entries in which every pair occurs once, in the order of the entries that were kept."""
    if not _has_repeated_pairs(entries):
        return entries
    involved = _positions_of_repeated_pairs(entries)
    # Only these are sorted, stably, so that the entries of a pair keep their order.
    order = involved[np.lexsort((entries.columns[involved], entries.rows[involved]))]
    rows, columns = entries.rows[order], entries.columns[order]
    repeats = np.zeros(len(order), dtype=np.bool_)
    repeats[1:] = (rows[1:] == rows[:-1]) & (columns[1:] == columns[:-1])
    if not repeats.any():
        return entries
    if policy == "error":
        raise ValueError(_first_duplicate(entries, order, repeats))
    if policy == "last":
        return _without(entries, order[np.append(repeats[1:], False)])
    if policy in ("mean", "sum"):
        entries = _combine(entries, order, np.flatnonzero(~repeats), policy)
    return _without(entries, order[repeats])


def _has_repeated_pairs(entries: Entries) -> bool:
    """Return whether a pair may occur twice; True without a check if the matrix is too large for one."""
    rows, columns, shape = entries.rows, entries.columns, entries.shape
    if rows.dtype != np.int32 or max(shape) > _MOST_LINES + len(rows):
        return True
    return _native.has_repeated_pairs(
        np.ascontiguousarray(rows), np.ascontiguousarray(columns), *shape, torch.get_num_threads()
    )


def _positions_of_repeated_pairs(entries: Entries) -> NDArray[np.intp]:
    rows, columns, shape = entries.rows, entries.columns, entries.shape
    if len(rows) == 0:
        return np.zeros(0, dtype=np.intp)
    if shape[0] * shape[1] >= 2**63:  # keys would overflow, so any entry may be involved
        return np.arange(len(rows))
    keys = pair_keys(rows, columns, shape)
    keys.sort()
    repeated = keys[1:][keys[1:] == keys[:-1]]
    if len(repeated) == 0:
        return np.zeros(0, dtype=np.intp)
    keys = pair_keys(rows, columns, shape)
    nearest = np.searchsorted(repeated, keys)
    np.minimum(nearest, len(repeated) - 1, out=nearest)
    return np.flatnonzero(repeated[nearest] == keys)


def _first_duplicate(entries: Entries, order: NDArray[np.intp], repeats: NDArray[np.bool_]) -> str:
    repeated = np.flatnonzero(repeats)
    # The smallest position that repeats a pair comes right after the first position of that pair.
    place = repeated[np.argmin(order[repeated])]
    first, second = order[place - 1], order[place]
    pair = (int(entries.rows[first]), int(entries.columns[first]))
    return (
        f"`rows` and `columns` must not repeat a pair, got {pair} at positions {first} and {second} "
        f"({len(repeated)} repeats in total); choose duplicates='first', 'last', 'mean' or 'sum'"
    )


def _without(entries: Entries, dropped: NDArray[np.intp]) -> Entries:
    keep = np.ones(len(entries.rows), dtype=np.bool_)
    keep[dropped] = False
    chosen = torch.from_numpy(keep)
    weights = None if entries.weights is None else entries.weights[chosen]
    return Entries(entries.rows[keep], entries.columns[keep], entries.shape, entries.values[chosen], weights)


def _combine(
    entries: Entries, order: NDArray[np.intp], starts: NDArray[np.intp], policy: Duplicates
) -> Entries:
    """Replace the first entry of each run of ``order``, which begin at ``starts``, by their mean or sum."""
    places = torch.from_numpy(order)
    values = entries.values[places].to(torch.float64).numpy()
    weights = None if entries.weights is None else entries.weights[places].to(torch.float64).numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        if policy == "mean":
            combined, combined_weights = _means(values, weights, starts)
        else:
            combined = np.add.reduceat(values, starts)
            combined_weights = None if weights is None else _common_weights(entries, weights, order, starts)
    first = places[torch.from_numpy(starts)]
    merged = replace(entries, values=_replaced("values", entries.values, first, combined))
    if entries.weights is None or combined_weights is None:
        return merged
    return replace(merged, weights=_replaced("weights", entries.weights, first, combined_weights))


def _replaced(name: str, numbers: Tensor, places: Tensor, combined: NDArray[Any]) -> Tensor:
    rounded = torch.from_numpy(combined).to(numbers.dtype)
    beyond = (~torch.isfinite(rounded)).nonzero().flatten()
    if len(beyond) > 0:
        place = int(beyond[0])
        raise ValueError(
            f"`{name}` of a repeated pair must combine to a finite {numbers.dtype}, "
            f"got {combined[place]:g} at position {int(places[place])}; choose a wider dtype"
        )
    numbers[places] = rounded  # a copy of the user's data
    return numbers


def _means(
    values: NDArray[Any], weights: NDArray[Any] | None, starts: NDArray[np.intp]
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return weighted means and summed weights; if all weights of a pair are 0, its plain mean."""
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
    """Return the weight of each pair, which its entries must share."""
    smallest, largest = np.minimum.reduceat(weights, starts), np.maximum.reduceat(weights, starts)
    differing = np.flatnonzero(smallest != largest)
    if len(differing) > 0:
        run = differing[np.argmin(order[starts[differing]])]
        first = order[starts[run]]
        pair = (int(entries.rows[first]), int(entries.columns[first]))
        raise ValueError(
            f"`weights` of repeated pairs must agree with duplicates='sum', got {smallest[run]:g} and "
            f"{largest[run]:g} for {pair}, first at position {first}; choose duplicates='mean'"
        )
    return smallest
