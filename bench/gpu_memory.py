"""Memory and time that a GPU needs for a problem's layout, and memory for a step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch

from bench.problems import Problem

T = TypeVar("T")


def measure(problem: Problem) -> dict[str, float]:
    """Build the layout, which the problem keeps, and take one step. Bytes are those of torch's allocator.

    A, Bᵀ and their gradients count as factors and gradients: `peak_step_bytes_per_entry` is what a step needs
    beyond them, layout and values included.
    """
    before = torch.cuda.memory_allocated()
    _, checking, _ = _watched(lambda: problem.checked)
    layout, building, building_peak = _watched(lambda: problem.layout)
    held = torch.cuda.memory_allocated() - before
    sweep = torch.ops.dmf_fast.completion_loss_gradients
    sides = (problem.a, problem.b_transposed)
    outputs, _, peak = _watched(lambda: sweep(*sides, layout.buffer, layout.values, None, 1.0))
    beyond = peak - before - sum(output.nbytes for output in outputs)
    return {
        "observations_seconds": checking,
        "layout_seconds": building,
        "peak_building_bytes_per_entry": (building_peak - before) / problem.nnz,
        "held_bytes_per_entry": held / problem.nnz,
        "peak_step_bytes_per_entry": beyond / problem.nnz,
    }


def _watched(work: Callable[[], T]) -> tuple[T, float, int]:
    """Return what `work` returns, its seconds, and the most bytes that were allocated meanwhile."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    result = work()
    torch.cuda.synchronize()
    return result, time.perf_counter() - start, torch.cuda.max_memory_allocated()
