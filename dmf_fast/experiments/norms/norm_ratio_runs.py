"""Descent of one matrix with a penalty on the ratio of nuclear to Frobenius norm, and its tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from dmf_fast.experiments.recovery.completion_grid import CompletionGrid
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_tables import cached_table
from dmf_fast.experiments.running.columns import by_seed
from dmf_fast.experiments.synthetic import LowRankProblem
from dmf_fast.initialization import initialize
from dmf_fast.spectrum import effective_rank
from dmf_fast.threads import one_thread_each
from dmf_fast.training.interrupt import DeferredInterrupt

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "Adam": torch.optim.Adam,
    "gradient descent": torch.optim.SGD,
}
FIRST_TUNING_SEED = 1000
_ROWS = 50


@dataclass(frozen=True)
class RatioGrid:
    """Problems, and the settings that are tried on the tuning problem before the others.

    Attributes:
        problems: sizes and seeds, and the runs of depth 3 that the penalized ones are compared with.
        steps: of every penalized run.
        learning_rates: of every optimizer.
        penalties: ``λ``.
        init_scale: of the penalized starts, whose norm is about a tenth of that of the truth. They should not
            be much smaller: the gradient of the penalty scales as ``1 / ‖W‖_F``, and Adam takes thousands of
            steps to forget its squares.

    """

    problems: CompletionGrid
    steps: int
    learning_rates: dict[str, tuple[float, ...]]
    penalties: tuple[float, ...]
    init_scale: float = 1.0

    @property
    def observed(self) -> int:
        """Number of observed entries."""
        (count,) = self.problems.observed
        return count


FULL = RatioGrid(
    CompletionGrid(observed=(2_500,), depths=(3,), init_scales=(1e-3,), learning_rates=(1e-3,)),
    steps=3_000,
    # Gradient descent is stable up to the number of observed entries.
    learning_rates={"Adam": (1e-3, 3e-3, 1e-2), "gradient descent": (1.0, 30.0, 300.0)},
    penalties=(1e-3, 1e-2, 1e-1),
)
# The same ratio of observed entries to degrees of freedom.
QUICK = RatioGrid(
    CompletionGrid(
        size=30, rank=2, observed=(300,), depths=(3,), init_scales=(1e-3,), learning_rates=(1e-3,), seeds=2
    ),
    steps=1_500,
    learning_rates={"Adam": (1e-2,), "gradient descent": (1.0, 100.0)},
    penalties=(3e-3, 1e-2),
)


@dataclass(frozen=True)
class RatioResults:
    """The results.

    Attributes:
        grid: the grid.
        tuning: one row per run on the tuning problem: ``optimizer``, ``lr``, ``penalty``, ``seed``, ``step``,
            ``train_loss``, ``reconstruction_mse``, ``effective_rank``.
        runs: the same for every recorded state of the runs with the best settings.

    """

    grid: RatioGrid
    tuning: pa.Table
    runs: pa.Table

    def at_end(self, measure: str, optimizer: str) -> np.ndarray:
        """Return a measure at the end of the runs of an optimizer, ``(seeds,)``."""
        return by_seed(self.runs, measure, optimizer=optimizer, step=self.grid.steps)


def run_ratio_grid(grid: RatioGrid, reproduction: Reproduction) -> RatioResults:
    """Tune every optimizer on the tuning problem and run it on the others, or load earlier results.

    Raises `KeyboardInterrupt` after Ctrl-C; finished runs are kept.
    """
    tried = [
        (optimizer, lr, penalty, FIRST_TUNING_SEED)
        for optimizer, rates in grid.learning_rates.items()
        for lr, penalty in product(rates, grid.penalties)
    ]
    tuning = pa.concat_tables([table.slice(len(table) - 1) for table in _tables(grid, tried, reproduction)])
    best = [best_of(tuning, optimizer) for optimizer in grid.learning_rates]
    final = [
        (str(row["optimizer"]), float(row["lr"]), float(row["penalty"]), seed)
        for row in best
        for seed in range(grid.problems.seeds)
    ]
    return RatioResults(grid, tuning, pa.concat_tables(_tables(grid, final, reproduction)))


def best_of(tuning: pa.Table, optimizer: str) -> dict[str, Any]:
    """Return the row of an optimizer with the lowest reconstruction error, ignoring diverged runs.

    >>> rows = [{"optimizer": "Adam", "reconstruction_mse": error} for error in (2.0, 1.0, float("nan"))]
    >>> best_of(pa.Table.from_pylist(rows), "Adam")["reconstruction_mse"]
    1.0
    """
    rows = [row for row in tuning.to_pylist() if row["optimizer"] == optimizer]
    return min(rows, key=lambda row: np.nan_to_num(row["reconstruction_mse"], nan=np.inf))


def _tables(
    grid: RatioGrid, runs: Sequence[tuple[str, float, float, int]], reproduction: Reproduction
) -> list[pa.Table]:
    folder = reproduction.folder / "norm_ratio"
    with DeferredInterrupt() as interrupt, one_thread_each(torch.get_num_threads()) as pool:

        def solve(optimizer: str, lr: float, penalty: float, seed: int) -> pa.Table:
            def descend() -> pa.Table:
                rows = penalized_descent(
                    grid, optimizer, lr, penalty, seed, interrupted=lambda: interrupt.requested
                )
                labels = {"optimizer": optimizer, "lr": lr, "penalty": penalty, "seed": seed}
                return pa.Table.from_pylist([labels | row for row in rows])

            return cached_table(folder / _name(grid, optimizer, lr, penalty, seed), descend)

        return list(pool.map(solve, *zip(*runs, strict=True)))


def _name(grid: RatioGrid, optimizer: str, lr: float, penalty: float, seed: int) -> Path:
    problems = grid.problems
    sizes = f"size-{problems.size}-rank-{problems.rank}-observed-{grid.observed}"
    run = f"{optimizer.replace(' ', '_')}-lr-{lr:g}-penalty-{penalty:g}-scale-{grid.init_scale:g}"
    return Path(sizes, f"{run}-steps-{grid.steps}-seed-{seed}")


def penalized_descent(
    grid: RatioGrid,
    optimizer: str,
    lr: float,
    penalty: float,
    seed: int,
    interrupted: Callable[[], bool] = lambda: False,
) -> list[dict[str, float]]:
    """Minimize the mean squared residual plus ``penalty · ‖W‖_* / ‖W‖_F`` over one matrix, float32.

    Raises `KeyboardInterrupt` before the next step once ``interrupted`` returns True.
    """
    problem = grid.problems.problem(grid.observed, seed)
    data = _Data.of(problem)
    size = grid.problems.size
    (matrix,) = initialize("gaussian", (size, size), grid.init_scale, seed=seed)
    rule = OPTIMIZERS[optimizer]([matrix.requires_grad_()], lr=lr)
    rows, every = [], max(1, grid.steps // _ROWS)
    for step in range(grid.steps + 1):
        if interrupted():
            raise KeyboardInterrupt
        with torch.no_grad():
            ratio_gradient, values = norm_ratio_gradient(matrix)
            residuals = data.observed * (matrix - data.truth)
            matrix.grad = 2 / data.count * residuals + penalty * ratio_gradient
            if step % every == 0 or step == grid.steps:
                rows.append({"step": step} | _measures(matrix, residuals, values, data))
        if step < grid.steps:
            rule.step()
    return rows


def norm_ratio_gradient(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return a subgradient of ``‖W‖_* / ‖W‖_F`` and the singular values, descending.

    With ``W = U S Vᵀ`` it is ``U Vᵀ / ‖W‖_F − ‖W‖_* W / ‖W‖_F³``: the gradient if all singular values are
    positive.

    >>> gradient, values = norm_ratio_gradient(torch.diag(torch.tensor([3.0, 4.0])))
    >>> gradient.diagonal().round(decimals=3), values
    (tensor([ 0.0320, -0.0240]), tensor([4., 3.]))
    """
    left, values, right_transposed = torch.linalg.svd(matrix, full_matrices=False)
    frobenius = torch.linalg.vector_norm(values)
    return left @ right_transposed / frobenius - matrix * (values.sum() / frobenius**3), values


@dataclass(frozen=True)
class _Data:
    """The truth, its mask of observed entries as ones and zeros, and the number of ones; float32."""

    truth: Tensor
    observed: Tensor
    count: int

    @staticmethod
    def of(problem: LowRankProblem) -> _Data:
        truth = problem.truth.float()
        observed = torch.zeros_like(truth)
        observed[problem.train.coordinates()] = 1.0
        return _Data(truth, observed, len(problem.train))


def _measures(matrix: Tensor, residuals: Tensor, values: Tensor, data: _Data) -> dict[str, float]:
    finite = bool(values.isfinite().all())
    return {
        "train_loss": float(residuals.square().sum()) / data.count,
        "reconstruction_mse": float((matrix - data.truth).square().mean()),
        "effective_rank": float(effective_rank(values)) if finite else float("nan"),
    }
