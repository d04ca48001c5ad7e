"""Connected observed entries lead from small starts to low rank, disconnected ones to low nuclear norm.

Bai, Zhao & Zhang, "Connectivity Shapes Implicit Regularization in Matrix Factorization Models for Matrix
Completion" (NeurIPS 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product

import numpy as np
import pyarrow as pa
import torch
from matplotlib.figure import Figure

from dmf_fast.chain import chain_product
from dmf_fast.convex import ConvexOptions, minimum_nuclear_norm
from dmf_fast.experiments.norms.connectivity_claims import PATTERNS, PRECISION, Completion, claims, select
from dmf_fast.experiments.page.papers import BAI
from dmf_fast.experiments.page.section import Section
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_trials import run_trials, work_of
from dmf_fast.figure_style import CURVE_STYLES, add_legend, draw_spread, new_figure
from dmf_fast.initialization import initialize
from dmf_fast.observations import Observations
from dmf_fast.page.content import Picture, ResultTable
from dmf_fast.training import FitOptions, Recording, Trial

DIM = 4
RANKS = (1, 2)
INIT_SCALES = (1e-2, 1e-4, 1e-8, 1e-16, 1e-24)
LEARNING_RATE = 1e-2
LOSS_THRESHOLD = 1e-12

INTRODUCTION = (
    "Rows and columns are the vertices of a graph, observed entries its edges. Two complete blocks of 2 × 2 "
    "entries are disconnected; one more entry connects them, one less leaves a block incomplete. A 4 × 4 "
    "matrix of rank r is completed at depth 2 from small random starts. Left: the (r + 1)-th singular value "
    "over the largest, zero where the rank is the least one. Right: by how much the nuclear norm exceeds the "
    f"least one of all completions (at least {PRECISION:g}). The start shrinks to the right. Incomplete "
    "blocks are drawn without a verdict."
)


def run(reproduction: Reproduction) -> Section:
    """Complete from three patterns at ever smaller starts; raise `KeyboardInterrupt` after Ctrl-C."""
    seeds = range(5 if reproduction.quick else 10)
    scales = INIT_SCALES[::2] if reproduction.quick else INIT_SCALES
    problems = {key: problem(*key) for key in product(RANKS, PATTERNS, seeds)}
    least = {key: least_nuclear_norm(observed) for key, observed in problems.items()}
    trials = [_trial(*key, scale, problems[key]) for key in problems for scale in scales]
    ended = run_trials(trials, reproduction, "connectivity").results
    completions = [
        Completion.of(one, chain_product(one.factors), least[rank, pattern, seed])
        for one, (rank, pattern, seed) in zip(ended, (key for key in problems for _ in scales), strict=True)
    ]
    return Section(
        title="Connected entries: low rank; disconnected ones: low nuclear norm",
        paper=BAI,
        introduction=INTRODUCTION,
        settings={
            "matrix": f"{DIM} × {DIM}, U Vᵀ with Gaussian factors, scaled to ‖W‖_F = {DIM}",
            "rank": " and ".join(map(str, RANKS)),
            "observed": "; ".join(f"{name}: {pattern.sum()} entries" for name, pattern in PATTERNS.items()),
            "start": "Gaussian factors of depth 2, scales " + ", ".join(f"{scale:g}" for scale in scales),
            "optimizer": f"gradient descent at a learning rate of {LEARNING_RATE:g}",
            "loss": "sum of the squared residuals",
            "stopped": f"at a mean squared residual of {LOSS_THRESHOLD:g}",
            "seeds": f"{len(seeds)}, each with its own matrix, order of rows and columns, and start",
        },
        claims=claims(completions),
        figures=[Picture.of(_plot(completions), "Medians and ranges over the seeds.")],
        tables=[ResultTable(_table(completions), "The end of the runs, medians over the seeds.")],
        work=work_of(ended),
    )


def problem(rank: int, pattern: str, seed: int) -> Observations:
    """Return entries of a random matrix; all patterns of a seed share the matrix and the order.

    >>> len(problem(1, "connected", seed=0))
    9
    """
    random = np.random.default_rng(seed)
    truth = random.standard_normal((DIM, rank)) @ random.standard_normal((rank, DIM))
    truth *= DIM / np.linalg.norm(truth)
    order = np.ix_(random.permutation(DIM), random.permutation(DIM))
    return Observations.from_dense(torch.from_numpy(truth), torch.from_numpy(PATTERNS[pattern][order]))


def least_nuclear_norm(observed: Observations) -> float:
    """Return the least nuclear norm of all completions."""
    return minimum_nuclear_norm(observed, options=ConvexOptions(tolerance=PRECISION / 10)).matrix.nuclear_norm


def _trial(rank: int, pattern: str, seed: int, scale: float, observed: Observations) -> Trial:
    return Trial(
        {"rank": rank, "pattern": pattern, "init_scale": scale, "seed": seed},
        initialize("gaussian", (DIM,) * 3, scale, seed=seed, dtype=torch.float64),
        observed,
        partial(torch.optim.SGD, lr=LEARNING_RATE),
        FitOptions(steps=1_000_000, reduction="sum", train_loss_threshold=LOSS_THRESHOLD),
        Recording(per_decade=2),
    )


def _table(completions: Sequence[Completion]) -> pa.Table:
    keys = dict.fromkeys((one.rank, one.pattern, one.init_scale) for one in completions)
    rows = []
    for rank, pattern, scale in keys:
        alike = select(completions, pattern, rank=rank, init_scale=scale)
        rows.append(
            {"rank r": rank, "entries": pattern, "scale of the start": f"{scale:g}"}
            | {
                name: float(np.median([getattr(one, measure) for one in alike]))
                for measure, name in (
                    ("excess_value", "σ_(r+1) / σ_1"),
                    ("nuclear_excess", "nuclear norm / least − 1"),
                    ("loss", "train loss"),
                )
            }
        )
    return pa.Table.from_pylist(rows)


def _plot(completions: Sequence[Completion]) -> Figure:
    figure, panels = new_figure(columns=2, rows=len(RANKS), panel_height=2.7, share_x=True)
    scales = sorted({one.init_scale for one in completions}, reverse=True)
    for row, rank in zip(panels, RANKS, strict=True):
        for axes, measure in zip(row, ("excess_value", "nuclear_excess"), strict=True):
            for pattern, style in zip(PATTERNS, CURVE_STYLES[1:], strict=False):
                spread = [
                    [
                        getattr(one, measure)
                        for one in select(completions, pattern, rank=rank, init_scale=scale)
                    ]
                    for scale in scales
                ]
                draw_spread(axes, scales, spread, style, pattern)
            axes.set(xscale="log", yscale="log", title=f"rank {rank}")
        row[0].set_ylabel("σ$_{r+1}$ / σ$_1$")
        row[1].set_ylabel("nuclear norm / least − 1")
    panels[0, 0].invert_xaxis()
    for axes in panels[-1]:
        axes.set_xlabel("scale of the start")
    add_legend(panels[0, 0], loc="lower left")
    return figure
