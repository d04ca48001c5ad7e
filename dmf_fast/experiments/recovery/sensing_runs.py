"""Runs of a grid of sensing problems, and what is kept of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from tqdm import tqdm

from dmf_fast.chain import chain_product
from dmf_fast.convex.sensing import minimum_nuclear_norm_sensing
from dmf_fast.experiments.page.section import Work
from dmf_fast.experiments.recovery.sensing_descent import batched_gradient_descent
from dmf_fast.experiments.recovery.sensing_grid import SensingGrid
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_tables import cached_table
from dmf_fast.experiments.running.columns import by_seed
from dmf_fast.experiments.synthetic import low_rank_problem
from dmf_fast.files.text import json_text
from dmf_fast.initialization import initialize
from dmf_fast.optim import GroupRMSprop
from dmf_fast.sensing import gaussian_measurements
from dmf_fast.threads import one_thread_each
from dmf_fast.training.interrupt import DeferredInterrupt

# One generator draws measurements and starts: of equal seeds, a start would be one of the measurements.
_FIRST_SEED_OF_A_START = 1_000

_SCHEMA = pa.schema(
    {
        "measured": pa.int64(),
        "seed": pa.int64(),
        "depth": pa.int64(),
        "init_scale": pa.float64(),
        "reconstruction_mse": pa.float64(),
        "train_loss": pa.float64(),
        "steps": pa.int64(),
        "stopped_because": pa.string(),
    }
)


@dataclass(frozen=True)
class SensingResults:
    """What came out of a grid.

    Attributes:
        grid: the grid.
        runs: one row a run: ``measured``, ``seed``, ``depth``, ``init_scale``, ``reconstruction_mse``,
            ``train_loss``, ``steps``, ``stopped_because``.
        convex: one row a problem: ``measured``, ``seed``, and of its matrix of least nuclear norm
            ``reconstruction_mse``.

    """

    grid: SensingGrid
    runs: pa.Table
    convex: pa.Table

    def of_runs(self, measure: str, **labels: Any) -> np.ndarray:
        """Return a measure of the runs with the labels, ``(seeds,)``; at the smallest scale without one."""
        return by_seed(self.runs, measure, **{"init_scale": min(self.grid.init_scales)} | labels)

    def of_convex(self, measured: int) -> np.ndarray:
        """Return the errors of the matrices of least nuclear norm, ``(seeds,)``."""
        return by_seed(self.convex, "reconstruction_mse", measured=measured)

    def work(self) -> list[Work]:
        """Return the steps of all runs, by depth and number of measurements."""
        return [
            Work(
                "sensing",
                (self.grid.size,) * (depth + 1),
                measured,
                sum(
                    int(self.of_runs("steps", measured=measured, depth=depth, init_scale=scale).sum())
                    for scale in self.grid.init_scales
                ),
            )
            for depth, measured in product(self.grid.depths, self.grid.measured)
        ]


def run_sensing_grid(grid: SensingGrid, reproduction: Reproduction) -> SensingResults:
    """Run the whole grid, or load what has been run before: all runs of a problem are kept together.

    Raises `KeyboardInterrupt` where Ctrl-C ended it: problems that have ended are kept.
    """
    counts = sorted((*grid.measured, *grid.convex_only), reverse=True)  # the longest first
    problems = list(product(counts, range(grid.seeds)))
    hidden = None if reproduction.progress is None else not reproduction.progress
    with (
        DeferredInterrupt() as interrupt,
        # A step is too short to share: every problem has a core, where it is not slowed down by waiting.
        one_thread_each(torch.get_num_threads()) as pool,
    ):

        def solve(measured: int, seed: int) -> pa.Table:
            path = reproduction.folder / "sensing" / f"{_name(grid, measured, seed)}.parquet"
            return cached_table(path, lambda: _rows(grid, measured, seed, lambda: interrupt.requested))

        solved = pool.map(solve, *zip(*problems, strict=True))
        bar = tqdm(solved, total=len(problems), unit="problem", disable=hidden)
        rows = pa.concat_tables(list(bar))
    is_run = pc.field("depth").is_valid()
    return SensingResults(grid, rows.filter(is_run), rows.filter(~is_run))


def _rows(grid: SensingGrid, measured: int, seed: int, interrupted: Callable[[], bool]) -> pa.Table:
    """Solve one problem in all ways: a row without a depth for the nuclear norm, and one for every run."""
    if interrupted():
        raise KeyboardInterrupt
    truth = low_rank_problem(grid.size, grid.size, grid.rank, observed=1, seed=seed).truth
    measurements = gaussian_measurements(truth, measured, seed)
    convex = minimum_nuclear_norm_sensing(measurements).product
    rows: list[dict[str, Any]] = [{"reconstruction_mse": _error(convex, truth)}]
    starts = list(product(grid.depths, grid.init_scales)) if measured in grid.measured else []
    runs = batched_gradient_descent(
        [
            initialize("gaussian", (grid.size,) * (depth + 1), scale, seed=_FIRST_SEED_OF_A_START + seed)
            for depth, scale in starts
        ],
        measurements,
        partial(GroupRMSprop, lr=grid.learning_rate),
        steps=grid.steps,
        train_loss_threshold=grid.train_loss_threshold,
        progress=False,
        interrupted=interrupted,
    )
    if any(run.stopped_because == "interrupted" for run in runs):
        raise KeyboardInterrupt
    rows += [
        {
            "depth": depth,
            "init_scale": scale,
            "reconstruction_mse": _error(chain_product([factor.double() for factor in run.factors]), truth),
            "train_loss": run.train_loss,
            "steps": run.steps,
            "stopped_because": run.stopped_because,
        }
        for (depth, scale), run in zip(starts, runs, strict=True)
    ]
    return pa.Table.from_pylist([{"measured": measured, "seed": seed} | row for row in rows], schema=_SCHEMA)


def _error(product: Tensor, truth: Tensor) -> float:
    return float((product - truth).square().mean())


def _name(grid: SensingGrid, measured: int, seed: int) -> str:
    """Return a name that only the same problem has, solved in the same ways."""
    others = ("measured", "convex_only", "seeds")  # the other problems of the grid
    decides = {name: value for name, value in asdict(grid).items() if name not in others}
    decides |= {"measured": measured, "seed": seed, "convex_only": measured not in grid.measured}
    digest = sha256(json_text(decides).encode()).hexdigest()[:16]
    return f"{grid.size}-rank-{grid.rank}-measured-{measured}-seed-{seed}-{digest}"
