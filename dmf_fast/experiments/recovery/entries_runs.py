"""Runs at several numbers of observed entries: all depths from one scale, and depth 2 from a smaller one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dmf_fast.experiments.recovery.completion_grid import (
    RUNS,
    CompletionGrid,
    GridResults,
    least_nuclear_norms,
    trials,
)
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_trials import run_trials, work_of

NUCLEAR_NORM = "nuclear norm"


def run_entries(grid: CompletionGrid, smaller_scale: float, reproduction: Reproduction) -> GridResults:
    """Run a grid of one scale, and its depth 2 from ``smaller_scale`` too, or load earlier results.

    The grid of the results has both scales. Raises `KeyboardInterrupt` after Ctrl-C; finished runs are kept.
    """
    shallow = replace(grid, depths=(2,), init_scales=(smaller_scale,))
    ended = run_trials([*trials(grid), *trials(shallow)], reproduction, RUNS)
    both = replace(grid, init_scales=(*grid.init_scales, smaller_scale))
    return GridResults(both, ended.summary(), least_nuclear_norms(grid), work_of(ended.results))


def factorizations(grid: CompletionGrid) -> dict[str, dict[str, int | float]]:
    """Return the depth and scale of all runs, by name.

    >>> list(factorizations(CompletionGrid(depths=(2, 3), init_scales=(1e-3, 1e-6))))
    ['depth 2', 'depth 3', 'depth 2 from 1e-06']
    """
    large, small = max(grid.init_scales), min(grid.init_scales)
    named = {f"depth {depth}": {"depth": depth, "init_scale": large} for depth in grid.depths}
    return named | {f"depth 2 from {small:g}": {"depth": 2, "init_scale": small}}


def errors_by_method(results: GridResults, observed: int) -> dict[str, np.ndarray]:
    """Return the reconstruction errors, ``(seeds,)``, of the nuclear norm and of all factorizations."""
    errors = {NUCLEAR_NORM: results.of_convex("reconstruction_mse", observed)}
    for name, labels in factorizations(results.grid).items():
        errors[name] = results.of_runs("reconstruction_mse", observed=observed, **labels)
    return errors
