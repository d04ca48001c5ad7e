"""Plateaus of the effective rank along runs: their positions, lengths and flatness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dmf_fast.experiments.dynamics.closed_form import Numbers, time_of_value
from dmf_fast.experiments.running.columns import column
from dmf_fast.training import TrialResult

SINGULAR_VALUES = (8.0, 4.0, 2.0, 1.0)
"""Singular values of the observed matrix."""

NEAR = 0.05
"""Relative tolerance within which an effective rank counts as being on a plateau."""


@dataclass(frozen=True)
class Plateau:
    """The plateau of a run at rank ``rank``, between finding one singular value and the next.

    Attributes:
        start: what the run starts from.
        depth, init_scale, seed: of the run.
        rank: L.
        end: the time when σ_(L+1) reaches half of its final value.
        length: the time since σ_L did.
        flat: the longest uninterrupted part of it in which the effective rank is within 5% of that of the
            best approximation of rank L.

    """

    start: str
    depth: int
    init_scale: float
    seed: int
    rank: int
    end: float
    length: float
    flat: float


def plateaus_of(run: TrialResult, ranks: Sequence[float]) -> list[Plateau]:
    """Return the plateaus at all but the last of the effective ranks of best approximations."""
    labels, history = run.trial.labels, run.result.history.table
    times, path = rank_path(run)
    halves = [
        half_time(times, column(history, f"singular_value_{place}")) for place in range(1, 1 + len(ranks))
    ]
    plateaus = []
    for rank, (level, (begin, end)) in enumerate(zip(ranks, pairwise(halves), strict=False), start=1):
        near = (np.abs(path / level - 1) <= NEAR) & (begin <= times) & (times <= end)
        flat = longest_stay(times, near) / (end - begin) if end > begin else 0.0
        start, depth, scale, seed = (labels[name] for name in ("start", "depth", "init_scale", "seed"))
        found = (str(start), int(depth), float(scale), int(seed), rank, end, end - begin, flat)
        plateaus.append(Plateau(*found))
    return plateaus


def rank_path(run: TrialResult) -> tuple[Numbers, Numbers]:
    """Return times and effective ranks of the recorded states."""
    history = run.result.history.table
    return column(history, "step") * float(run.trial.spec.options["lr"]), column(history, "effective_rank")


def longest_stay(times: Numbers, inside: np.ndarray) -> float:
    """Return the longest uninterrupted time in which ``inside`` is true, both ``(rows,)``; 0 if it never is.

    >>> longest_stay(np.array([0.0, 1.0, 2.0, 4.0]), np.array([True, False, True, True]))
    2.0
    """
    changes = np.flatnonzero(np.diff(np.concatenate(([False], inside, [False])).astype(int)))
    return max(
        (float(times[after - 1] - times[first]) for first, after in changes.reshape(-1, 2)), default=0.0
    )


def half_time(times: Numbers, values: Numbers) -> float:
    """Return when values first reach half of the last one, interpolated between two rows.

    >>> half_time(np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 8.0]))
    1.3333333333333333
    """
    after = int(np.argmax(values >= values[-1] / 2))
    rows = slice(max(0, after - 1), after + 1)
    return float(np.interp(values[-1] / 2, values[rows], times[rows]))


def largest_fall(path: Numbers) -> float:
    """Return the largest relative fall of a trajectory below its maximum since its lowest value.

    >>> largest_fall(np.array([9.0, 1.0, 2.0, 1.5, 4.0]))
    0.25
    """
    rest = path[int(np.argmin(path)) :]
    return float(np.max(1 - rest / np.maximum.accumulate(rest)))


def over_seeds(
    plateaus: Sequence[Plateau], start: str, measure: str
) -> dict[tuple[int, int], dict[float, list[float]]]:
    """Return a measure from one kind of start by depth and rank, then by scale, the largest scale first."""
    groups: dict[tuple[int, int], dict[float, list[float]]] = {}
    for one in sorted(plateaus, key=lambda one: (one.depth, one.rank, -one.init_scale, one.seed)):
        if one.start == start:
            by_scale = groups.setdefault((one.depth, one.rank), {})
            by_scale.setdefault(one.init_scale, []).append(getattr(one, measure))
    return groups


def predicted_length(rank: int, scale: float, depth: int) -> float:
    """Return the time from when σ_L reaches half of its final value to when σ_(L+1) does, by the closed form.

    The start is a multiple of the identity.

    >>> round(predicted_length(1, 1e-2, depth=2), 3)
    0.165
    """
    before, after = (
        float(time_of_value(value / 2, value, scale, depth)) for value in SINGULAR_VALUES[rank - 1 : rank + 1]
    )
    return after - before
