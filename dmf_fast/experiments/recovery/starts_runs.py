"""Runs of depths 2 and 3 from every kind of start and with several optimizers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import torch

from dmf_fast.experiments.recovery.completion_grid import (
    FULL,
    CompletionGrid,
    GridResults,
    least_nuclear_norms,
)
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_trials import run_trials, work_of
from dmf_fast.experiments.running.columns import by_seed
from dmf_fast.initialization import INITIALIZATIONS, initialize
from dmf_fast.optim import GroupRMSprop
from dmf_fast.optim.spec import OptimizerLike
from dmf_fast.training import FitOptions, Recording, Trial

STARTS = tuple(INITIALIZATIONS)
ADAM_RATES = {"Adam 1e-3": 1e-3, "Adam 1e-4": 1e-4}
OPTIMIZERS = ("GroupRMSprop", *ADAM_RATES, "SGD")
PAIRS = (
    *((start, OPTIMIZERS[0]) for start in STARTS),
    *(("gaussian", optimizer) for optimizer in OPTIMIZERS[1:]),
)
"""Start and optimizer of the runs: all starts with GroupRMSprop, all optimizers with Gaussian starts."""

# About a tenth of the largest stable ones, 1 / (p N σ^(2 − 2/N)) where a fraction p of the entries is
# observed.
SGD_RATES = {2: 5e-3, 3: 1e-3}

FEW = replace(
    FULL, observed=(2_000,), depths=(2, 3), init_scales=(1e-3,), learning_rates=(1e-3,), steps=100_000
)
QUICK_FEW = replace(FEW, size=60, rank=3, observed=(720,), learning_rates=(3e-3,), seeds=2, steps=20_000)


def run_starts(grid: CompletionGrid, reproduction: Reproduction) -> GridResults:
    """Run all pairs of start and optimizer, columns ``start`` and ``method``, or load earlier results.

    Raises `KeyboardInterrupt` after Ctrl-C; finished runs are kept.
    """
    ended = run_trials(list(trials(grid)), reproduction, "starts")
    return GridResults(grid, ended.summary(), least_nuclear_norms(grid), work_of(ended.results))


def trials(grid: CompletionGrid) -> Iterator[Trial]:
    """Return the runs, starting with those of depth 3, which take longest."""
    (init_scale,), (lr,) = grid.init_scales, grid.learning_rates
    for depth, (start, optimizer), seed in product(sorted(grid.depths)[::-1], PAIRS, range(grid.seeds)):
        problem = grid.problem(grid.few, seed)
        yield Trial(
            {"start": start, "method": optimizer, "depth": depth, "seed": seed},
            initialize(start, (grid.size,) * (depth + 1), init_scale, seed=seed),
            problem.train.to(dtype=torch.float32),
            _optimizer(optimizer, depth, lr),
            # The rates of SGD are for the sum, so that they do not depend on the number of entries.
            FitOptions(steps=grid.steps, train_loss_threshold=grid.train_loss_threshold, reduction="sum"),
            Recording(per_decade=2, spectrum=True),
            truth=problem.truth,
        )


def _optimizer(name: str, depth: int, lr: float) -> OptimizerLike:
    if name in ADAM_RATES:
        return partial(torch.optim.Adam, lr=ADAM_RATES[name])
    if name == "SGD":
        return partial(torch.optim.SGD, lr=SGD_RATES[depth])
    return partial(GroupRMSprop, lr=lr)


def of_pair(
    results: GridResults, start: str, optimizer: str, depth: int, measure: str = "reconstruction_mse"
) -> np.ndarray:
    """Return a measure of the runs of a pair, ``(seeds,)``."""
    return by_seed(results.runs, measure, start=start, method=optimizer, depth=depth)
