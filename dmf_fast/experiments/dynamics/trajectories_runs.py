"""Runs of gradient descent with the trajectories of their singular values, measured and predicted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from scipy.integrate import cumulative_trapezoid

from dmf_fast.chain import chain_product
from dmf_fast.dynamics import loss_gradient, singular_value_velocities
from dmf_fast.experiments.dynamics.closed_form import Numbers, path_of_slopes, symmetric_matrix, value_at
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_tables import cached_table
from dmf_fast.experiments.running.columns import column
from dmf_fast.experiments.synthetic import low_rank_problem
from dmf_fast.initialization import initialize
from dmf_fast.observations import Observations
from dmf_fast.training import FitOptions, Progress, Recording, Trial, TrialResult, fit

OBSERVED_DIM, TARGETS, OBSERVED_SCALE = 10, (2.0, 1.0), 1e-3
OBSERVED_RATES = {1: 1e-3, 2: 5e-4, 3: 5e-4, 4: 2e-4}
OBSERVED_TIME = {1: 4.0, 2: 4.0, 3: 10.0, 4: 15.0}

DIM, RANK, ENTRIES, SCALE = 20, 3, 280, 1e-2
RATES = {1: 1e-3, 2: 2e-4, 3: 1e-4, 4: 5e-5}
INTERVALS = {1: 0.02, 2: 5e-3, 3: 2.5e-3, 4: 2.5e-3}
LONGEST = 8.0
LOSS_THRESHOLD = 1e-4


@dataclass(frozen=True)
class SingularValuePaths:
    """Trajectories of the leading singular values along a run, measured and predicted.

    Attributes:
        depth, seed: of the run.
        times: ``(rows,)``, step times learning rate.
        measured: ``(rows, k)``.
        predicted: ``(rows, k)``, by theorem 3.
        contrast: ``(rows, k)``, by theorem 3 of a chain with one factor more.
        steps: number of steps of the run.

    """

    depth: int
    seed: int
    times: Numbers
    measured: Numbers
    predicted: Numbers
    contrast: Numbers
    steps: int

    def error(self) -> float:
        """Return the largest error of predicted values relative to the final ones."""
        return _largest_error(self.predicted, self.measured)

    def contrast_error(self) -> float:
        """Return the same for ``contrast``; infinite if that diverges."""
        return _largest_error(self.contrast, self.measured)


def observed_paths(results: Iterable[TrialResult]) -> list[SingularValuePaths]:
    """Return the trajectories of runs of `observed_trial`, predicted before the run."""
    paths = []
    for one in results:
        depth, history = int(one.trial.labels["depth"]), one.result.history.table
        times = column(history, "step") * OBSERVED_RATES[depth]
        places = range(1, 1 + len(TARGETS))
        measured = np.stack([column(history, f"singular_value_{place}") for place in places], axis=1)
        predicted, contrast = (
            np.stack([value_at(times, target, OBSERVED_SCALE, factors) for target in TARGETS], axis=1)
            for factors in (depth, depth + 1)
        )
        paths.append(SingularValuePaths(depth, 0, times, measured, predicted, contrast, one.result.steps))
    return paths


def followed_paths(trial: Trial, states: pa.Table) -> SingularValuePaths:
    """Return the trajectories of a run of `followed_trial`, predicted from its start and the gradient.

    The velocities of theorem 3 are divided by ``−N σ^(2−2/N)``, which leaves ``⟨∇ℓ(W), u_r v_rᵀ⟩``.
    """
    depth, seed = int(trial.labels["depth"]), int(trial.labels["seed"])
    steps, measured, velocities = (column(states, name) for name in ("step", "values", "velocities"))
    slopes = -velocities / (depth * measured ** (2 - 2 / depth))
    integral = cumulative_trapezoid(slopes, steps * RATES[depth], axis=0, initial=0)
    predicted, contrast = (path_of_slopes(measured[0], integral, factors) for factors in (depth, depth + 1))
    return SingularValuePaths(
        depth, seed, steps * RATES[depth], measured, predicted, contrast, int(steps[-1])
    )


def _largest_error(paths: Numbers, measured: Numbers) -> float:
    return float(np.max(np.abs(paths - measured) / measured[-1]))


def observed_trial(depth: int) -> Trial:
    """Return a trial that starts at a multiple of the identity, on a fully observed symmetric matrix."""
    lr = OBSERVED_RATES[depth]
    return Trial(
        {"depth": depth},
        initialize("identity", (OBSERVED_DIM,) * (depth + 1), OBSERVED_SCALE, dtype=torch.float64),
        Observations.from_dense(torch.from_numpy(symmetric_matrix(OBSERVED_DIM, TARGETS, seed=0))),
        partial(torch.optim.SGD, lr=lr),
        FitOptions(steps=round(OBSERVED_TIME[depth] / lr), reduction="sum"),
        Recording(every=round(OBSERVED_TIME[depth] / lr / 400), singular_values=len(TARGETS), norms=False),
    )


def followed_trial(depth: int, seed: int) -> Trial:
    """Return a trial that completes a matrix of low rank from balanced factors."""
    lr = RATES[depth]
    return Trial(
        {"depth": depth, "seed": seed},
        initialize("balanced", (DIM,) * (depth + 1), SCALE, seed=seed, dtype=torch.float64),
        low_rank_problem(DIM, DIM, RANK, ENTRIES, seed, dtype=torch.float64).train,
        partial(torch.optim.SGD, lr=lr),
        FitOptions(steps=round(LONGEST / lr), reduction="sum", train_loss_threshold=LOSS_THRESHOLD),
        Recording(every=round(INTERVALS[depth] / lr), norms=False),
    )


def follow(trial: Trial, reproduction: Reproduction) -> pa.Table:
    """Run a trial, or load earlier results: ``step``, ``values``, ``velocities`` of every state.

    The velocities are those that theorem 3 predicts. Raises `KeyboardInterrupt` after Ctrl-C.
    """
    return cached_table(
        reproduction.folder / "trajectories" / trial.key(), lambda: _follow(trial, reproduction.progress)
    )


def _follow(trial: Trial, progress: bool | None) -> pa.Table:
    factors = [factor.clone() for factor in trial.factors]
    rows: list[dict[str, object]] = []

    def record(state: Progress) -> None:
        product = chain_product(state.factors)
        gradient = loss_gradient(product, trial.train, "sum")
        values, velocities = singular_value_velocities(product, gradient, len(factors), RANK)
        rows.append({"step": state.step, "values": values.tolist(), "velocities": velocities.tolist()})

    options = replace(trial.options, progress=progress)
    result = fit(
        factors, trial.train, trial.optimizer, options, recording=trial.recording, callbacks=[record]
    )
    if result.stopped_because == "interrupted":
        raise KeyboardInterrupt
    return pa.Table.from_pylist(rows)
