"""Runs of grids of sensing problems, and their cached results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from dmf_fast.files.text import json_text
from dmf_fast.initialization import initialize
from dmf_fast.optim import GroupRMSprop
from dmf_fast.sensing import Measurements, gaussian_measurements
from dmf_fast.spectrum import effective_rank, nuclear_norm
from dmf_fast.threads import one_thread_each
from dmf_fast.training.interrupt import DeferredInterrupt

# One generator draws measurements and starts; with equal seeds, a start would be one of the measurements.
_FIRST_SEED_OF_A_START = 1_000

_SCHEMA = pa.schema(
    {
        "measured": pa.int64(),
        "seed": pa.int64(),
        "depth": pa.int64(),
        "init_scale": pa.float64(),
        "reconstruction_mse": pa.float64(),
        "nuclear_norm": pa.float64(),
        "effective_rank": pa.float64(),
        "train_loss": pa.float64(),
        "steps": pa.int64(),
        "stopped_because": pa.string(),
    }
)


@dataclass(frozen=True)
class SensingResults:
    """The results of a grid.

    Attributes:
        grid: the grid.
        runs: one row per run: ``measured``, ``seed``, ``depth``, ``init_scale``, ``reconstruction_mse``,
            ``nuclear_norm``, ``effective_rank``, ``train_loss``, ``steps``, ``stopped_because``.
        convex: one row per problem: ``measured``, ``seed``, and of its matrix of least nuclear norm
            ``reconstruction_mse``, ``nuclear_norm`` and ``effective_rank``.

    """

    grid: SensingGrid
    runs: pa.Table
    convex: pa.Table

    def of_runs(self, measure: str, **labels: Any) -> np.ndarray:
        """Return a measure of the runs with the labels, ``(seeds,)``; at the smallest scale without one."""
        return by_seed(self.runs, measure, **{"init_scale": min(self.grid.init_scales)} | labels)

    def of_convex(self, measure: str, measured: int) -> np.ndarray:
        """Return a measure of the matrices of least nuclear norm, ``(seeds,)``."""
        return by_seed(self.convex, measure, measured=measured)

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


def run_sensing_grids(grids: Sequence[SensingGrid], reproduction: Reproduction) -> list[SensingResults]:
    """Run whole grids, or load earlier results: runs that share measurements are cached together.

    Raises `KeyboardInterrupt` after Ctrl-C; finished problems are kept.
    """
    problems = [
        (grid, counts, seed)
        for grid in grids
        for counts in ([grid.measured] if grid.nested else [(count,) for count in grid.measured])
        for seed in range(grid.seeds)
    ]
    problems.sort(key=lambda problem: max(problem[1]), reverse=True)  # the longest first
    with (
        DeferredInterrupt() as interrupt,
        # A step is too short to share among threads: every problem gets its own core.
        one_thread_each(torch.get_num_threads()) as pool,
    ):

        def solve(grid: SensingGrid, counts: tuple[int, ...], seed: int) -> pa.Table:
            path = reproduction.folder / "sensing" / f"{_name(grid, counts, seed)}.parquet"
            return cached_table(path, lambda: _rows(grid, counts, seed, lambda: interrupt.requested))

        solved = pool.map(solve, *zip(*problems, strict=True))
        bar = tqdm(solved, total=len(problems), unit="problem", disable=reproduction.hides_bars)
        tables = list(bar)
    of_grid = [
        pa.concat_tables([table for (of, *_), table in zip(problems, tables, strict=True) if of is grid])
        for grid in grids
    ]
    is_run = pc.field("depth").is_valid()
    return [
        SensingResults(grid, rows.filter(is_run), rows.filter(~is_run))
        for grid, rows in zip(grids, of_grid, strict=True)
    ]


def _rows(grid: SensingGrid, counts: tuple[int, ...], seed: int, interrupted: Callable[[], bool]) -> pa.Table:
    """Solve one problem with all methods, from the first ``counts`` of the same measurements.

    For each of them there is a row without a depth, for the nuclear norm, and one for every run.
    """
    truth = grid.truth(seed)
    measurements = gaussian_measurements(truth, max(counts), seed)
    rows: list[dict[str, Any]] = []
    for count in counts:
        if interrupted():
            raise KeyboardInterrupt
        first = Measurements(measurements.matrices[:count], measurements.values[:count])
        rows.append({"measured": count} | _measures(minimum_nuclear_norm_sensing(first).product, truth))
    starts = list(product(counts, grid.depths, grid.init_scales))
    runs = batched_gradient_descent(
        [
            initialize("gaussian", (grid.size,) * (depth + 1), scale, seed=_FIRST_SEED_OF_A_START + seed)
            for _, depth, scale in starts
        ],
        measurements,
        partial(GroupRMSprop, lr=grid.learning_rate),
        counts=[count for count, _, _ in starts],
        steps=grid.steps,
        train_loss_threshold=grid.train_loss_threshold,
        progress=False,
        interrupted=interrupted,
    )
    if any(run.stopped_because == "interrupted" for run in runs):
        raise KeyboardInterrupt
    rows += [
        {
            "measured": count,
            "depth": depth,
            "init_scale": scale,
            "train_loss": run.train_loss,
            "steps": run.steps,
            "stopped_because": run.stopped_because,
        }
        | _measures(chain_product([factor.double() for factor in run.factors]), truth)
        for (count, depth, scale), run in zip(starts, runs, strict=True)
    ]
    return pa.Table.from_pylist([{"seed": seed} | row for row in rows], schema=_SCHEMA)


def _measures(product: Tensor, truth: Tensor) -> dict[str, float]:
    spectrum = torch.linalg.svdvals(product)
    return {
        "reconstruction_mse": float((product - truth).square().mean()),
        "nuclear_norm": float(nuclear_norm(spectrum)),
        "effective_rank": float(effective_rank(spectrum)),
    }


def _name(grid: SensingGrid, counts: tuple[int, ...], seed: int) -> str:
    """Return a name that identifies the problem and the methods."""
    others = ("seeds", "nested")  # which other problems the grid has
    decides = {name: value for name, value in asdict(grid).items() if name not in others}
    decides |= {"measured": counts, "seed": seed}
    digest = sha256(json_text(decides).encode()).hexdigest()[:16]
    measured = "-".join(map(str, counts))
    return f"{grid.size}-rank-{grid.rank}-measured-{measured}-seed-{seed}-{digest}"
