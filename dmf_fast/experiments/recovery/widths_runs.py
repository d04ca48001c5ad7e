"""Chains of several widths from spectral starts, compared with the full width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from dmf_fast.chain import relative_distance
from dmf_fast.completion import CompletedMatrix, CompletionOptions, complete_matrix
from dmf_fast.completion.spectral import spectral_factors
from dmf_fast.completion.widths import FIRST_WIDTH, MOST_TAIL_SHARE, MOVED, tail_share
from dmf_fast.experiments.page.section import Work
from dmf_fast.experiments.ratings.movielens_data import MovieLensSplit
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_tables import cached_table
from dmf_fast.experiments.running.cached_trials import run_trials, work_of
from dmf_fast.experiments.running.columns import column
from dmf_fast.experiments.synthetic import LowRankProblem, low_rank_problem
from dmf_fast.initialization import initialize
from dmf_fast.optim import GroupRMSprop
from dmf_fast.training import FitOptions, Recording, Trial, TrialResult


@dataclass(frozen=True)
class WidthGrid:
    """Square matrices of one rank, completed by chains of several widths; the last is the full width."""

    size: int = 100
    rank: int = 5
    observed: int = 2_000
    depths: tuple[int, ...] = (2, 3, 4)
    widths: tuple[int, ...] = (5, 10, 20, 40, 100)
    init_scale: float = 1e-3
    lr: float = 1e-3
    steps: int = 100_000
    train_loss_threshold: float = 1e-6
    seeds: int = 5

    def problem(self, seed: int) -> LowRankProblem:
        """Draw the matrix and its observed entries, the same for every width and depth."""
        return low_rank_problem(self.size, self.size, self.rank, self.observed, seed)

    def settings(self) -> dict[str, str]:
        """Return the settings that a page shows."""
        return {
            "matrix": f"{self.size} × {self.size}, rank {self.rank}, {self.observed:,} observed entries",
            "depths": ", ".join(map(str, self.depths)),
            "widths": ", ".join(map(str, self.widths)),
            "start": "along the leading singular vectors of the observed values, all singular values "
            f"{self.init_scale:g}; once more with Gaussian factors of full width and that scale",
            "optimizer": f"GroupRMSprop, learning rate {self.lr:g}",
            "stopped": f"at a train loss of {self.train_loss_threshold:g}, or after {self.steps:,} steps",
            "seeds": str(self.seeds),
        }


FULL = WidthGrid()
QUICK = WidthGrid(size=60, rank=3, observed=720, widths=(3, 12, 60), depths=(2, 3), lr=2e-3, seeds=2)

JOB = CompletionOptions(
    depth=3,
    hidden="auto",
    init_scale=1e-2,
    bias=False,
    coordinates="plain",
    optimizer="group-rmsprop",
    lr=0.03,
    weight_decay=0.0,
    refit=False,
    fit=FitOptions(steps=3_000, patience=6, progress=False),
    recording=Recording(every=100, norms=False),
)
"""The options for MovieLens, completed once at the width found and once at full width."""


@dataclass(frozen=True)
class WidthResults:
    """The results of a grid.

    Attributes:
        grid: the grid.
        runs: one row per run: ``depth``, ``width``, ``seed``, ``distance`` of the product to that of full
            width, ``tail_share`` where it is largest, ``beyond``, the share of the nuclear norm beyond
            twice the rank at the end, ``reconstruction_mse``, ``gaussian_mse`` of a Gaussian start of full
            width, ``steps``, ``seconds`` and ``stopped_because``.
        work: steps of all runs.

    """

    grid: WidthGrid
    runs: pa.Table
    work: list[Work]


def run_widths(grid: WidthGrid, reproduction: Reproduction) -> WidthResults:
    """Run the whole grid, or load earlier results; raise `KeyboardInterrupt` after Ctrl-C."""
    trials = list(_trials(grid))
    ended = run_trials(trials, reproduction, "widths").results
    by_labels = {_key(one): one for one in ended}
    rows = [_row(grid, one, by_labels) for one in ended if one.trial.labels["start"] == "spectral"]
    return WidthResults(grid, pa.Table.from_pylist(rows), work_of(ended))


def run_movielens(split: MovieLensSplit, reproduction: Reproduction) -> pa.Table:
    """Complete MovieLens at the width found and at the full width, or load earlier results.

    A row each: ``width``, ``tried``, widths with the shares of their smaller halves, ``steps``, ``seconds``,
    ``validation_rmse``, ``test_rmse``, ``distance`` to the full width.
    """

    def compute() -> pa.Table:
        jobs = (JOB, replace(JOB, hidden=None, initialization="spectral"))
        ended = [
            complete_matrix(split.train, job, validation=split.validation, test=split.test) for job in jobs
        ]
        if any(completed.interrupted for completed in ended):
            raise KeyboardInterrupt
        return pa.Table.from_pylist([_row_of_job(completed, ended[-1]) for completed in ended])

    key = sha256(repr((JOB, FIRST_WIDTH, MOST_TAIL_SHARE)).encode()).hexdigest()[:8]
    folder = reproduction.folder / "widths-movielens" / f"{split.train.digest()[:12]}-{key}"
    return cached_table(folder, compute)


def _row_of_job(completed: CompletedMatrix, full: CompletedMatrix) -> dict[str, Any]:
    tried = ", ".join(f"{one.width} ({one.tail_share or 0.0:.1%})" for one in completed.widths)
    return {
        "width": completed.model.dims[1],
        "tried": tried or "–",
        "steps": completed.steps,
        "seconds": completed.seconds,
        "validation_rmse": completed.validation_rmse,
        "test_rmse": completed.test_rmse,
        "distance": relative_distance(list(completed.model.factors), list(full.model.factors)),
    }


def _trials(grid: WidthGrid) -> Iterator[Trial]:
    # The longest runs first, so that all cores finish together.
    for depth in sorted(grid.depths, reverse=True):
        for width in sorted(grid.widths, reverse=True):
            for seed in range(grid.seeds):
                yield _trial(grid, depth, width, seed, "spectral")
        for seed in range(grid.seeds):
            yield _trial(grid, depth, grid.size, seed, "gaussian")


def _trial(grid: WidthGrid, depth: int, width: int, seed: int, start: str) -> Trial:
    problem = grid.problem(seed)
    if start == "spectral":
        factors = spectral_factors(problem.train, width, depth, grid.init_scale)
    else:
        factors = initialize(start, (width,) * (depth + 1), grid.init_scale, seed=seed)
    return Trial(
        {"start": start, "depth": depth, "width": width, "seed": seed},
        factors,
        problem.train,
        partial(GroupRMSprop, lr=grid.lr),
        FitOptions(steps=grid.steps, train_loss_threshold=grid.train_loss_threshold),
        Recording(per_decade=10, singular_values=min(width, grid.size), norms=False),
        truth=problem.truth,
    )


def _key(one: TrialResult) -> tuple[Any, ...]:
    labels = one.trial.labels
    return labels["start"], labels["depth"], labels["width"], labels["seed"]


def _row(grid: WidthGrid, one: TrialResult, by_labels: dict[tuple[Any, ...], TrialResult]) -> dict[str, Any]:
    _, depth, width, seed = _key(one)
    wide, gaussian = (by_labels[start, depth, grid.size, seed] for start in ("spectral", "gaussian"))
    return {
        "depth": depth,
        "width": width,
        "seed": seed,
        "distance": relative_distance(one.factors, wide.factors),
        "tail_share": largest_tail_share(one.result.history.table, width, grid.init_scale),
        "beyond": share_beyond(one.result.history.table, width, 2 * grid.rank),
        "reconstruction_mse": float(column(one.result.history.table, "reconstruction_mse")[-1]),
        "gaussian_mse": float(column(gaussian.result.history.table, "reconstruction_mse")[-1]),
        "steps": one.result.steps,
        "seconds": one.result.seconds,
        "stopped_because": one.result.stopped_because,
    }


def largest_tail_share(history: pa.Table, width: int, start: float) -> float:
    """Return the largest `tail_share` of the states from the one on at which half the loss is left."""
    values, losses = _singular_values(history, range(1, width + 1)), column(history, "train_loss")
    moved = values[losses <= MOVED * losses[0]]
    return max((tail_share(torch.from_numpy(state), start) for state in moved), default=0.0)


def share_beyond(history: pa.Table, width: int, rank: int) -> float:
    """Return the share of the nuclear norm beyond the ``rank`` largest singular values at the end."""
    values = _singular_values(history, range(1, width + 1))[-1]
    return float(values[rank:].sum() / values.sum())


def _singular_values(history: pa.Table, places: Sequence[int]) -> np.ndarray:
    return np.stack([column(history, f"singular_value_{place}") for place in places], axis=1)
