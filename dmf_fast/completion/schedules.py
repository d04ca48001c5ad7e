"""Learning rate schedules by name, as torch schedulers."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
}
"""Fraction of the learning rate as a function of the fraction of steps done, both from 0 to 1."""


def make_scheduler(
    name: str, optimizer: torch.optim.Optimizer, steps: int, warmup: int = 0
) -> LRScheduler | None:
    """Return the scheduler called ``name`` (a key of `SCHEDULES`) for a run of ``steps``.

    The rate rises linearly over the first ``warmup`` steps and then follows the schedule, which ends at
    ``steps``. Returns None if the rate never changes.

    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=8.0)
    >>> make_scheduler("linear", optimizer, steps=4).get_last_lr()
    [8.0]
    """
    if name == "constant" and warmup == 0:
        return None
    shape = SCHEDULES[name]

    def part(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return shape(min(1.0, (step - warmup) / max(1, steps - warmup)))

    return LambdaLR(optimizer, part)
