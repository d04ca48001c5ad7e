"""Greedy low-rank learning: a tiny start leads to a fit of rank 1, then of rank 2, and so on.

Li, Luo & Lyu, "Towards Resolving the Implicit Bias of Gradient Descent for Matrix Factorization: Greedy
Low-Rank Learning" (ICLR 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from matplotlib.figure import Figure

from dmf_fast.chain import chain_product
from dmf_fast.experiments.dynamics.greedy_phases import GreedyPhase, claims, measured, over_seeds, phases_of
from dmf_fast.experiments.page.papers import LI
from dmf_fast.experiments.page.section import Section
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_trials import run_trials, work_of
from dmf_fast.figure_style import (
    CURVE_STYLES,
    DEPTH_STYLES,
    add_legend,
    draw_curve,
    draw_spread,
    new_figure,
)
from dmf_fast.initialization import initialize
from dmf_fast.observations import Observations
from dmf_fast.page.content import Picture, ResultTable
from dmf_fast.training import FitOptions, Recording, Trial, TrialResult

DIM, OBSERVED = 20, 320
SINGULAR_VALUES = (20.0, 10.0, 5.0)
LEARNING_RATES = {2: 0.5, 3: 0.1}
INIT_SCALES = {2: (1e-2, 1e-4, 1e-6, 1e-8, 1e-12), 3: (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)}

INTRODUCTION = (
    "Greedy low-rank learning fits with one singular value until nothing more is gained, at W_1, then "
    "with two until W_2, and so on; W_r is taken from gradient descent on factors that are only r wide. "
    "Factors of full width do nearly the same: they stay near W_r until the next singular value, which "
    "grown from its tiny start all the while, is large enough to count. The smaller the start, the closer "
    "they come; and in deeper chains larger starts suffice."
)


def run(reproduction: Reproduction) -> Section:
    """Descend from ever smaller starts at depths 2 and 3; raise `KeyboardInterrupt` after Ctrl-C."""
    seeds, thinning = (range(1), 2) if reproduction.quick else (range(5), 1)
    scales = [(depth, scale) for depth in INIT_SCALES for scale in INIT_SCALES[depth][::thinning]]
    narrow_trials = [_narrow_trial(width, seed) for seed in seeds for width in (1, 2)]
    narrow = run_trials(narrow_trials, reproduction, "greedy").results
    solutions = [narrow[2 * seed : 2 * seed + 2] for seed in seeds]
    wide_trials = [_wide_trial(*scale, seed, solutions[seed]) for scale in scales for seed in seeds]
    wide = run_trials(wide_trials, reproduction, "greedy").results
    phases = [phase for one in wide for phase in phases_of(one, solutions[int(one.trial.labels["seed"])])]
    return Section(
        title="Greedy low-rank learning",
        paper=LI,
        introduction=INTRODUCTION,
        settings=_settings(seeds),
        claims=claims(phases),
        figures=[
            Picture.of(_plot_singular_values(wide), "Singular values of the product, first seed."),
            Picture.of(
                _plot_phases(wide, solutions[0], phases),
                "Effective rank (below the rank where singular values differ) and loss, from the smallest "
                "start, first seed; dotted: the losses of W_1 and W_2. Right: least distances to W_1 and "
                "W_2, medians and extremes over the seeds.",
            ),
        ],
        tables=[ResultTable(_table(phases), "The phases, medians over the seeds.")],
        work=work_of(narrow + wide),
    )


def _settings(seeds: range) -> dict[str, str]:
    return {
        "matrix": f"{DIM} × {DIM}, with singular values {', '.join(map('{:g}'.format, SINGULAR_VALUES))}",
        "observed": f"{OBSERVED} entries",
        "learning rates": ", ".join(f"{lr:g} at depth {depth}" for depth, lr in LEARNING_RATES.items()),
        "start": "Gaussian factors; its scale is about that of the singular values of the product",
        "seeds": str(len(seeds)),
    }


def _narrow_trial(width: int, seed: int) -> Trial:
    return Trial(
        {"width": width, "seed": seed},
        initialize("gaussian", (DIM, width, DIM), 1e-8, seed=seed, dtype=torch.float64),
        observed_entries(seed),
        partial(torch.optim.SGD, lr=LEARNING_RATES[2]),
        FitOptions(steps=100_000, gradient_norm_threshold=1e-10),
    )


def _wide_trial(depth: int, scale: float, seed: int, solutions: Sequence[TrialResult]) -> Trial:
    first, second = (chain_product(solution.factors) for solution in solutions)
    return Trial(
        {"depth": depth, "init_scale": scale, "seed": seed},
        initialize("gaussian", (DIM,) * (depth + 1), scale, seed=seed, dtype=torch.float64),
        observed_entries(seed),
        partial(torch.optim.SGD, lr=LEARNING_RATES[depth]),
        FitOptions(steps=1_000_000, train_loss_threshold=1e-5),
        Recording(per_decade=100, singular_values=len(SINGULAR_VALUES), spectrum=True),
        # So the distances to W_1 and W_2 are recorded, as `phases_of` expects.
        truth=first,
        test=Observations.from_dense(second),
    )


def observed_entries(seed: int) -> Observations:
    """Return `OBSERVED` entries of a random matrix with the singular values `SINGULAR_VALUES`."""
    random = np.random.default_rng(seed)
    left, right = (np.linalg.qr(random.standard_normal((DIM, len(SINGULAR_VALUES)))).Q for _ in range(2))
    mask = np.zeros(DIM * DIM, dtype=bool)
    mask[random.choice(DIM * DIM, OBSERVED, replace=False)] = True
    return Observations.from_dense(left * SINGULAR_VALUES @ right.T, mask.reshape(DIM, DIM))


def _table(phases: Sequence[GreedyPhase]) -> pa.Table:
    names = {
        "progress": "σ_r over its end as σ_(r+1) rises",
        "distance": "least distance to W_r",
        "loss_ratio": "loss there over that of W_r",
    }
    rows = [
        {"depth": depth, "start": scale, "r": rank}
        | {name: float(np.median([getattr(phase, key) for phase in alike])) for key, name in names.items()}
        for (depth, rank), by_scale in over_seeds(phases).items()
        for scale, alike in by_scale.items()
    ]
    return pa.Table.from_pylist(rows)


def _plot_singular_values(wide: Sequence[TrialResult]) -> Figure:
    figure, panels = new_figure(columns=3, rows=len(INIT_SCALES), panel_height=2.5, share_y=True)
    for row, depth in zip(panels, INIT_SCALES, strict=True):
        runs = [one for one in wide if one.trial.labels["depth"] == depth and one.trial.labels["seed"] == 0]
        # The largest, a middle and the smallest start.
        for axes, one in zip(row, runs[:: len(runs) // 2], strict=True):
            for place, style in enumerate(CURVE_STYLES[1 : 1 + len(SINGULAR_VALUES)], start=1):
                values = measured(one, f"singular_value_{place}")
                draw_curve(axes, measured(one, "step")[1:], values[1:], style, f"σ_{place}")
            axes.set(xscale="log", xlim=(10, None))
            axes.set_title(f"depth {depth}, start {one.trial.labels['init_scale']:g}")
        row[0].set_ylabel("singular value")
    for axes in panels[-1]:
        axes.set_xlabel("step")
    add_legend(panels[0, 0])
    return figure


def _plot_phases(
    wide: Sequence[TrialResult], solutions: Sequence[TrialResult], phases: Sequence[GreedyPhase]
) -> Figure:
    figure, ((ranks, losses, distances),) = new_figure(columns=3, panel_height=2.9)
    # The smallest start comes last and stays.
    smallest = {int(one.trial.labels["depth"]): one for one in wide if one.trial.labels["seed"] == 0}
    for depth, one in smallest.items():
        steps, style = measured(one, "step")[1:], DEPTH_STYLES[depth]
        draw_curve(ranks, steps, measured(one, "effective_rank")[1:], style, f"depth {depth}")
        draw_curve(losses, steps, measured(one, "train_loss")[1:], style)
    for one in solutions:
        losses.axhline(measured(one, "train_loss")[-1], color="black", linestyle=":", linewidth=1)
    ranks.set(xscale="log", xlim=(10, None), xlabel="step", ylabel="effective rank", ylim=(0.9, 4))
    losses.set(xscale="log", xlim=(10, None), xlabel="step", yscale="log", ylabel="train loss")
    for ((depth, rank), by_scale), style in zip(over_seeds(phases).items(), CURVE_STYLES[1:], strict=False):
        spread = [[phase.distance for phase in alike] for alike in by_scale.values()]
        draw_spread(distances, list(by_scale), spread, style, f"depth {depth}, W_{rank}")
    distances.set(xscale="log", yscale="log", xlabel="scale of the start", ylabel="least relative distance")
    distances.invert_xaxis()
    add_legend(ranks, loc="upper center")
    add_legend(distances)
    return figure
