"""Figure 3 of Arora, Cohen, Hu & Luo (NeurIPS 2019): the dynamics of gradient descent over deep chains.

Singular values of the product along the run, the alignment of its singular vectors with those of the loss's
gradient, and theorem 3 compared with the run, for a random low-rank matrix and for MovieLens 100K.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from dmf_fast.experiments.dynamics.figure3_claims import alignment_ratios, claims, velocity_errors
from dmf_fast.experiments.dynamics.figure3_pictures import draw_dynamics, draw_theory
from dmf_fast.experiments.dynamics.singular_dynamics import DynamicsProblem, Runs, observe_dynamics, work_of
from dmf_fast.experiments.page.papers import ARORA
from dmf_fast.experiments.page.section import Section
from dmf_fast.experiments.ratings.movielens_data import read_some_ratings
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.synthetic import low_rank_problem
from dmf_fast.page.content import ResultTable

_SEED = 0

_OF_THE_AUTHORS = {
    "in the authors' public code": (
        "MovieLens from 1e-3 times the identity, with all 100,000 ratings from 1 to 5, in 200,000 "
        "steps on the mean: not followed here, as it would take hours. Here 10,000 ratings are scaled to 0 "
        "to 1, and the start is ten times as large"
    )
}


def synthetic(*, quick: bool) -> DynamicsProblem:
    """Return the paper's rank 5, 100 × 100 with 2,000 entries, with steps small enough for theory."""
    coarser = 4 if quick else 1
    rates = {1: 1e-3, 2: 2e-4, 3: 2e-4, 4: 1e-4}
    problem = low_rank_problem(100, 100, 5, 2_000, _SEED, dtype=torch.float64)
    return DynamicsProblem(
        name="rank 5, 100 × 100",
        train=problem.train,
        test=problem.test,
        hidden=100,
        init_scale=1e-3,
        learning_rates={depth: coarser * rate for depth, rate in rates.items()},
        interval=0.05 if quick else 0.025,
        longest=4.0,
        train_loss_threshold=1e-3,
        has_velocities=True,
        one_thread=True,
    )


def movielens(folder: Path, *, quick: bool) -> DynamicsProblem:
    """Return MovieLens 100K: 10,000 of its ratings, with steps about as large as is stable.

    Ratings are scaled to 0 … 1. The authors' public code uses raw ratings, a start of 1e-3 and 200,000 steps.
    """
    rates = {1: 0.05, 2: 0.01, 3: 0.001, 4: 0.0007}
    train, test = read_some_ratings(folder, 10_000, _SEED)
    return DynamicsProblem(
        name="MovieLens 100K",
        train=train,
        test=test,
        hidden=943,
        init_scale=1e-2,
        learning_rates={depth: rate for depth, rate in rates.items() if depth <= 2 or not quick},
        interval=0.4 if quick else 0.1,
        longest=4.0,
        train_loss_threshold=1e-2 if quick else 1e-3,
        one_thread=quick,
    )


def run(reproduction: Reproduction) -> Section:
    """Follow gradient descent at depths 1 to 4 on both problems and compare it with the theory."""
    problem = synthetic(quick=reproduction.quick)
    runs = observe_dynamics(problem, reproduction)
    observed = [(problem, runs)]
    figures = [draw_dynamics(problem.name, runs, "linear"), draw_theory(runs)]
    if reproduction.movielens is not None:
        problem = movielens(reproduction.movielens, quick=reproduction.quick)
        runs = observe_dynamics(problem, reproduction)
        observed.append((problem, runs))
        # On a linear axis the largest singular value would hide the others.
        figures.append(draw_dynamics(problem.name, runs, "log"))
    return Section(
        title="Dynamics: singular values and singular vectors along the run",
        paper=ARORA,
        introduction=(
            "Matrices are completed by plain gradient descent on the summed squared error of 1 to 4 factors, "
            "all of them small multiples of the identity at the start. Theory says that in its limit, "
            "gradient flow, smaller singular values move more slowly, and increasingly so the deeper the "
            "chain; time is the number of steps times the learning rate. Only on the random matrix are steps "
            "so small that flow and descent agree to a fraction of a percent."
        ),
        settings={problem.name: _described(problem) for problem, _ in observed}
        | (_OF_THE_AUTHORS if len(observed) > 1 else {}),
        claims=claims(*(runs for _, runs in observed)),
        figures=figures,
        tables=[
            ResultTable(
                _table(problem, runs),
                f"{problem.name}: the ends of the runs; test_rmse is the root mean squared "
                f"error of the {problem.test.nnz:,} other entries that are known.",
            )
            for problem, runs in observed
        ],
        work=[work for pair in observed for work in work_of(*pair)],
    )


def _described(problem: DynamicsProblem) -> str:
    rates = ", ".join(f"{rate:g} at depth {depth}" for depth, rate in problem.learning_rates.items())
    return (
        f"{problem.train.nnz:,} observed entries, {str(problem.train.dtype).removeprefix('torch.')}; "
        f"{problem.init_scale:g} times the identity, hidden width {problem.hidden}; learning rate {rates}; "
        f"until a mean train loss of {problem.train_loss_threshold:g} or a time of {problem.longest:g}"
    )


def _table(problem: DynamicsProblem, runs: Runs) -> pa.Table:
    rows = []
    for depth, states in runs.items():
        end = states.slice(len(states) - 1).to_pylist()[0]
        row = {"depth": depth, "learning_rate": problem.learning_rates[depth]}
        row |= {name: end[name] for name in ("step", "train_loss", "test_rmse", "effective_rank")}
        row |= {f"singular_value_{place}": end["singular_values"][place - 1] for place in (1, 5, 6)}
        row["median_off_diagonal_over_diagonal"] = float(np.median(alignment_ratios(states)))
        row["so_for_all_vectors"] = float(np.median(alignment_ratios(states, "_of_all")))
        row["largest_relative_balancedness"] = max(states["relative_balancedness"].to_pylist())
        if problem.has_velocities:
            errors = velocity_errors(states, depth)
            row |= {"velocity_error": errors.right, "velocity_error_of_wrong_exponent": errors.wrong}
        rows.append(row)
    return pa.Table.from_pylist(rows)
