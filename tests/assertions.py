"""Comparisons of the results of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from dmf_fast.training import FitResult

Ended: TypeAlias = tuple[Sequence[Tensor], FitResult]
"""The parameters that a run has left, and its result."""


def assert_close(actual: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> None:
    """Compare every tensor relative to its largest entry."""
    for place, (one, other) in enumerate(zip(actual, expected, strict=True)):
        one, other = one.detach().cpu().double(), other.detach().cpu().double()
        error = (one - other).abs().max() / other.abs().max()
        assert error <= tolerance, f"tensor {place} is off by {error:.1e}"


def assert_equal(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Compare tensors bit for bit."""
    for place, (one, other) in enumerate(zip(actual, expected, strict=True)):
        assert torch.equal(one, other), f"tensor {place} differs"


def assert_same(one: Ended, other: Ended) -> None:
    """Compare runs bit for bit, but for the time that they took."""
    assert_equal(one[0], other[0])
    first, second = one[1], other[1]
    assert first.history.table.drop_columns("seconds").equals(second.history.table.drop_columns("seconds"))
    assert (first.steps, first.best_step, first.stopped_because, first.engine) == (
        second.steps,
        second.best_step,
        second.stopped_because,
        second.engine,
    )
