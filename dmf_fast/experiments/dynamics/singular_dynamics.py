"""Runs of gradient descent, with the dynamics of singular values and vectors of their products."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from dmf_fast.chain import balancedness, chain_product
from dmf_fast.dynamics import compare_velocities, loss_gradient
from dmf_fast.experiments.page.section import Work
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_tables import cached_table
from dmf_fast.initialization import initialize
from dmf_fast.observations import Observations
from dmf_fast.spectrum import effective_rank
from dmf_fast.threads import threads_kept, use_one_thread
from dmf_fast.training import FitOptions, Progress, Recording, Trial, fit

LEADING = 10
"""Number of singular values and vectors that are followed."""

_ROUNDING = 1e-16
"""Of the squares of singular values, relative to the largest."""

Runs = Mapping[int, pa.Table]
"""The recorded states of the run of every depth; see `observe_dynamics`."""


@dataclass(frozen=True)
class DynamicsProblem:
    """A matrix that plain gradient descent completes at several depths, starting from scaled identities.

    Scaled identities are balanced, as the theory requires. The loss is the sum of the squared errors.

    Attributes:
        name: identifies the runs of the problem.
        train: the observed entries.
        test: other entries, to measure the error on.
        hidden: the width of all hidden spaces.
        init_scale: of the product at the start.
        learning_rates: by depth; a step takes this time.
        interval: the time between recorded states.
        longest: the time after which a run ends.
        train_loss_threshold: the mean squared error at which a run ends earlier.
        has_velocities: whether the velocities of the singular values are recorded too.
        one_thread: for small matrices and short runs, which more threads slow down if a core is busy.

    """

    name: str
    train: Observations
    test: Observations
    hidden: int
    init_scale: float
    learning_rates: Mapping[int, float]
    interval: float
    longest: float
    train_loss_threshold: float
    has_velocities: bool = False
    one_thread: bool = False

    def dims(self, depth: int) -> tuple[int, ...]:
        """Return ``(d_0, …, d_N)``."""
        rows, columns = self.train.shape
        return (columns, *[self.hidden] * (depth - 1), rows)

    def trial(self, depth: int, progress: bool | None = None) -> Trial:
        """Return the trial of a depth."""
        lr = self.learning_rates[depth]
        return Trial(
            {"problem": self.name, "depth": depth},
            initialize("identity", self.dims(depth), self.init_scale, dtype=self.train.dtype),
            self.train,
            partial(torch.optim.SGD, lr=lr),
            FitOptions(
                steps=round(self.longest / lr),
                reduction="sum",
                train_loss_threshold=self.train_loss_threshold,
                progress=progress,
            ),
            Recording(every=max(1, round(self.interval / lr)), norms=False),
            test=self.test,
        )


def observe_dynamics(problem: DynamicsProblem, reproduction: Reproduction) -> Runs:
    """Run a problem at all of its depths, or load earlier results; return the recorded states by depth.

    A table has one row per state: ``step``; ``time``, step times learning rate; ``train_loss``, the mean;
    ``test_rmse``; ``relative_balancedness``, of the factors over the largest ``‖W_j‖_F²``;
    ``effective_rank``; ``singular_values``, a list of the leading ones; ``diagonal`` and ``off_diagonal``,
    the mean size of such entries of ``Uᵀ ∇ℓ(W) V`` for the leading singular vectors, and ``diagonal_of_all``
    and ``off_diagonal_of_all`` for all of them. With velocities also ``middle_values``,
    ``measured`` and ``predicted``, lists as in `dmf_fast.dynamics.VelocityComparison` of the next step.

    Raises `KeyboardInterrupt` after Ctrl-C; finished runs are kept.
    """
    with threads_kept():
        if problem.one_thread:
            use_one_thread()
        return {depth: _observe(problem, depth, reproduction) for depth in problem.learning_rates}


def work_of(problem: DynamicsProblem, runs: Runs) -> list[Work]:
    """Return the steps taken at every depth."""
    return [
        Work("completion", problem.dims(depth), problem.train.nnz, states["step"][-1].as_py())
        for depth, states in runs.items()
    ]


def _observe(problem: DynamicsProblem, depth: int, reproduction: Reproduction) -> pa.Table:
    trial = problem.trial(depth, reproduction.progress)
    file = reproduction.folder / "figure3" / f"{trial.key()}.parquet"
    return cached_table(file, lambda: _descend(trial, has_velocities=problem.has_velocities))


def _descend(trial: Trial, *, has_velocities: bool) -> pa.Table:
    factors = [factor.clone() for factor in trial.factors]
    states: list[dict[str, Any]] = []

    def record(progress: Progress) -> None:
        time = progress.step * float(trial.spec.options["lr"])
        state: dict[str, Any] = {"step": progress.step, "time": time}
        state |= {"train_loss": progress.row["train_loss"], "test_rmse": progress.row["test_rmse"]}
        state |= _state(progress.factors, trial.train)
        states.append(state | (_velocities(progress.factors, trial) if has_velocities else {}))

    result = fit(
        factors,
        trial.train,
        trial.optimizer,
        trial.options,
        recording=trial.recording,
        test=trial.test,
        callbacks=[record],
    )
    if result.stopped_because == "interrupted":
        raise KeyboardInterrupt
    return pa.Table.from_pylist(states)


def _state(factors: list[Tensor], train: Observations) -> dict[str, Any]:
    product = chain_product([factor.double() for factor in factors])
    left, values, right = _singular_triples(product)
    sizes = (left.T @ loss_gradient(product, train, "sum") @ right).abs()
    largest = max(float(factor.double().square().sum()) for factor in factors)
    return {
        "relative_balancedness": float(balancedness(factors)) / largest,
        "effective_rank": float(effective_rank(values)),
        "singular_values": values[:LEADING].tolist(),
        **_mean_sizes(sizes[:LEADING, :LEADING], ""),
        **_mean_sizes(sizes, "_of_all"),
    }


def _mean_sizes(sizes: Tensor, suffix: str) -> dict[str, float]:
    """Return the means on and off the diagonal of ``(k, k)``."""
    on, count = float(sizes.diagonal().sum()), len(sizes)
    off = (float(sizes.sum()) - on) / (count * (count - 1))
    return {f"diagonal{suffix}": on / count, f"off_diagonal{suffix}": off}


def _velocities(factors: list[Tensor], trial: Trial) -> dict[str, Any]:
    """Return the velocities during the next step, which is taken here once more, from every state."""
    after, lr = [factor.clone() for factor in factors], float(trial.spec.options["lr"])
    fit(after, trial.train, trial.optimizer, FitOptions(steps=1, reduction="sum", progress=False))
    compared = compare_velocities([factors, after], [0.0, lr], trial.train, "sum", LEADING)
    return {
        "middle_values": compared.singular_values[0].tolist(),
        "measured": compared.measured[0].tolist(),
        "predicted": compared.predicted[0].tolist(),
    }


def _singular_triples(product: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return all left vectors, singular values and right vectors, ``min(m, n)`` of each.

    By the eigenvectors of ``W Wᵀ``: a fifth of the time of a singular value decomposition of 943 × 1682.
    Values below 1e-8 of the largest are lost; starts of 1e-3 and 1e-2 times the identity stay well above.
    """
    squares, vectors = torch.linalg.eigh(product @ product.T)
    values = squares.clamp(min=_ROUNDING * squares[-1]).sqrt().flip(0)[: min(product.shape)]
    left = vectors.flip(1)[:, : len(values)]
    return left, values, product.T @ left / values
