"""Matrix completion over depths, scales, learning rates and seeds, and nuclear-norm minimization."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from dmf_fast.convex import minimum_nuclear_norm
from dmf_fast.experiments.page.section import Work
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_trials import run_trials, work_of
from dmf_fast.experiments.running.columns import by_seed
from dmf_fast.experiments.synthetic import LowRankProblem, low_rank_problem
from dmf_fast.initialization import initialize
from dmf_fast.optim import GroupRMSprop
from dmf_fast.spectrum import effective_rank
from dmf_fast.threads import one_thread_each
from dmf_fast.training import FitOptions, Recording, Trial

RUNS = "completion"
"""Folder of the runs of all grids, so that grids share their common runs."""


@dataclass(frozen=True)
class CompletionGrid:
    """Square matrices of one rank, completed from several numbers of observed entries.

    The defaults, except for the seeds, are those of the public code of Arora, Cohen, Hu & Luo, "Implicit
    Regularization in Deep Matrix Factorization", NeurIPS 2019: roosephu/deep_matrix_factorization on GitHub.
    It sets the ``eps`` of GroupRMSprop to 1e-4; the runs here use 1e-6, and their errors agree within 4%.
    ``epsilon`` is the largest error of nuclear-norm minimization in an entry, about the square root of
    ``train_loss_threshold``.
    """

    size: int = 100
    rank: int = 5
    observed: tuple[int, ...] = (2_000, 5_000)
    depths: tuple[int, ...] = (2, 3, 4)
    init_scales: tuple[float, ...] = (1e-3, 1e-4, 1e-5, 1e-6)
    learning_rates: tuple[float, ...] = (1e-3, 3e-4)
    seeds: int = 5
    steps: int = 1_000_000
    train_loss_threshold: float = 1e-6
    epsilon: float = 1e-3

    @property
    def few(self) -> int:
        """The smallest number of observed entries."""
        return min(self.observed)

    @property
    def many(self) -> int:
        """The largest number of observed entries."""
        return max(self.observed)

    @property
    def degrees_of_freedom(self) -> int:
        """Degrees of freedom of a matrix of this rank."""
        return self.rank * (2 * self.size - self.rank)

    def problem(self, observed: int, seed: int) -> LowRankProblem:
        """Draw the matrix and its observed entries, which are the same for every depth and scale."""
        return low_rank_problem(self.size, self.size, self.rank, observed, seed, dtype=torch.float64)

    def settings(self) -> dict[str, str]:
        """Return the settings that a report shows."""
        return {
            "matrix": f"{self.size} × {self.size}, U Vᵀ with Gaussian factors scaled to ‖W‖_F = {self.size}",
            "rank": str(self.rank),
            "observed entries": ", ".join(f"{count:,}" for count in self.observed),
            "depths": ", ".join(map(str, self.depths)),
            "initialization": "Gaussian, scales "
            + ", ".join(f"{scale:g}" for scale in self.init_scales)
            + f"; ‖W‖_F at the start, the axis of the authors' notebook, is √{self.size} times the scale",
            "optimizer": "GroupRMSprop, learning rates " + ", ".join(f"{lr:g}" for lr in self.learning_rates),
            "stopped": f"at a train loss of {self.train_loss_threshold:g}, or after {self.steps:,} steps",
            "seeds": f"{self.seeds}, each with its own matrix, entries and starts",
            "nuclear norm": f"least one with every entry within {self.epsilon:g}",
        }


FULL = CompletionGrid()
# The same ratios of observed entries to degrees of freedom, and to all entries, in a third of the size.
QUICK = CompletionGrid(
    size=60,
    rank=3,
    observed=(720, 1_800),
    init_scales=(1e-3, 1e-5),
    learning_rates=(3e-3,),
    seeds=2,
    steps=15_000,
)


@dataclass(frozen=True)
class GridResults:
    """The results of a grid.

    Attributes:
        grid: the grid.
        runs: one row per run: ``observed``, ``seed``, ``depth``, ``init_scale``, ``lr``, ``step``,
            ``stopped_because``, ``train_loss``, ``reconstruction_mse``, ``nuclear_norm``, ``effective_rank``.
        convex: one row per problem: ``observed``, ``seed``, and of its matrix of least nuclear norm
            ``reconstruction_mse``, ``nuclear_norm`` and ``effective_rank``.
        work: the steps of all runs.

    """

    grid: CompletionGrid
    runs: pa.Table
    convex: pa.Table
    work: list[Work]

    def of_runs(self, measure: str, **labels: Any) -> np.ndarray:
        """Return a measure of the runs with the labels, ``(seeds,)``, float64.

        ``init_scale`` and ``lr`` default to the smallest.
        """
        smallest = {"init_scale": min(self.grid.init_scales), "lr": min(self.grid.learning_rates)}
        return by_seed(self.runs, measure, **smallest | labels)

    def of_convex(self, measure: str, observed: int) -> np.ndarray:
        """Return a measure of the matrices of least nuclear norm, ``(seeds,)``, float64."""
        return by_seed(self.convex, measure, observed=observed)


def run_grid(grid: CompletionGrid, reproduction: Reproduction) -> GridResults:
    """Run the whole grid, or load earlier results.

    Raises `KeyboardInterrupt` after Ctrl-C; finished runs are kept.
    """
    ended = run_trials(list(trials(grid)), reproduction, RUNS)
    return GridResults(grid, ended.summary(), least_nuclear_norms(grid), work_of(ended.results))


def trials(grid: CompletionGrid) -> Iterator[Trial]:
    """Return the runs of the whole grid."""
    # The longest runs first, so that all cores finish together.
    for lr, depth in product(sorted(grid.learning_rates), sorted(grid.depths, reverse=True)):
        for observed, seed, init_scale in product(grid.observed, range(grid.seeds), grid.init_scales):
            problem = grid.problem(observed, seed)
            yield Trial(
                {
                    "observed": observed,
                    "seed": seed,
                    "depth": depth,
                    "init_scale": init_scale,
                    "lr": lr,
                },
                initialize("gaussian", (grid.size,) * (depth + 1), init_scale, seed=seed),
                problem.train.to(dtype=torch.float32),
                partial(GroupRMSprop, lr=lr),
                FitOptions(steps=grid.steps, train_loss_threshold=grid.train_loss_threshold),
                Recording(per_decade=2, spectrum=True),
                truth=problem.truth,
            )


def least_nuclear_norms(grid: CompletionGrid) -> pa.Table:
    """Solve every problem of the grid by nuclear-norm minimization; for the columns see `GridResults`."""

    def solve(observed: int, seed: int) -> dict[str, float]:
        problem = grid.problem(observed, seed)
        matrix = minimum_nuclear_norm(problem.train, grid.epsilon).matrix
        return {
            "observed": observed,
            "seed": seed,
            "reconstruction_mse": float((matrix.dense() - problem.truth).square().mean()),
            "nuclear_norm": matrix.nuclear_norm,
            "effective_rank": float(effective_rank(matrix.singular_values)),
        }

    problems = list(product(grid.observed, range(grid.seeds)))
    # One core each, like the runs: matrices of this size gain nothing from two.
    with one_thread_each(torch.get_num_threads()) as pool:
        return pa.Table.from_pylist(list(pool.map(solve, *zip(*problems, strict=True))))
