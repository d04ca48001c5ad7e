"""Timing passes that take turns, so that noise of the machine falls on all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from statistics import median
from typing import TypeVar

import torch

Name = TypeVar("Name", bound=Hashable)
SECONDS_A_TURN = 0.02  # at least: a pass that runs only once, after another one, finds cold caches


def timed(one_pass: Callable[[], object], repeat: int, device: torch.device | str = "cpu") -> float:
    """Return seconds a pass over `repeat` passes, on a GPU by its own clock."""
    if torch.device(device).type == "cuda":
        return _timed_on_gpu(one_pass, repeat)
    start = time.perf_counter()
    for _ in range(repeat):
        one_pass()
    return (time.perf_counter() - start) / repeat


def _timed_on_gpu(one_pass: Callable[[], object], repeat: int) -> float:
    # One pair of events around all passes: they are queued ahead, and none waits for the one before.
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    for _ in range(repeat):
        one_pass()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / repeat


def median_seconds(
    passes: Mapping[Name, Callable[[], object]], rounds: int, device: torch.device | str = "cpu"
) -> dict[Name, float]:
    """Return the median seconds of every pass, warmed up, over `rounds` turns."""
    for one_pass in passes.values():
        one_pass()
    repeat = {
        name: max(1, int(SECONDS_A_TURN / timed(one_pass, 1, device))) for name, one_pass in passes.items()
    }
    seconds: dict[Name, list[float]] = {name: [] for name in passes}
    for _ in range(rounds):
        for name, one_pass in passes.items():
            if repeat[name] > 1:
                one_pass()
            seconds[name].append(timed(one_pass, repeat[name], device))
    return {name: median(times) for name, times in seconds.items()}
