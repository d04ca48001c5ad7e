"""Timing passes that take turns, so that noise of the machine falls on all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from statistics import median
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)
SECONDS_A_TURN = 0.02  # at least: a pass that runs once after another's finds cold caches


def timed(one_pass: Callable[[], object], repeat: int) -> float:
    """Return seconds a pass over `repeat` passes."""
    start = time.perf_counter()
    for _ in range(repeat):
        one_pass()
    return (time.perf_counter() - start) / repeat


def median_seconds(passes: Mapping[Name, Callable[[], object]], rounds: int) -> dict[Name, float]:
    """Return the median seconds of every pass, warmed up, over `rounds` turns."""
    for one_pass in passes.values():
        one_pass()
    repeat = {name: max(1, int(SECONDS_A_TURN / timed(one_pass, 1))) for name, one_pass in passes.items()}
    seconds: dict[Name, list[float]] = {name: [] for name in passes}
    for _ in range(rounds):
        for name, one_pass in passes.items():
            if repeat[name] > 1:
                one_pass()
            seconds[name].append(timed(one_pass, repeat[name]))
    return {name: median(times) for name, times in seconds.items()}
