"""Incremental learning in matrix sensing: solutions of ranks 1, 2, 3, … one after the other.

Jin, Li, Lyu, Du & Lee, "Understanding Incremental Learning of Gradient Descent: A Fine-grained Analysis of
Matrix Sensing" (ICML 2023).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from dmf_fast.experiments.dynamics.incremental_claims import claims
from dmf_fast.experiments.dynamics.incremental_runs import (
    DIM,
    EVERY,
    INIT_SCALES,
    LEARNING_RATE,
    MEASURED,
    RANK,
    SINGULAR_VALUES,
    STEPS,
    SensingProblem,
    sensing_problem,
)
from dmf_fast.experiments.page.papers import JIN
from dmf_fast.experiments.page.section import Section, Work
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.figure_style import (
    CURVE_STYLES,
    add_legend,
    draw_curve,
    draw_spread,
    new_figure,
)
from dmf_fast.page.content import Picture, ResultTable

_SHOWN_STEPS = 1_200

INTRODUCTION = (
    "A positive semidefinite matrix of rank 3 is measured with Gaussian matrices and sought as U Uᵀ. W_s is "
    "the best solution of rank s, which gradient descent on a U with s columns ends at; W_3 is the measured "
    "matrix. With as many columns as rows nothing limits the rank, and yet a run from a small start passes "
    "by W_1 and W_2 before it ends near W_3: curves of the distances dip one after the other, and the loss "
    "falls in steps."
)


def run(reproduction: Reproduction) -> Section:
    """Descend from ever smaller starts; raise `KeyboardInterrupt` after Ctrl-C, keeping finished seeds."""
    seeds = range(1) if reproduction.quick else range(5)
    problems = [sensing_problem(seed, reproduction) for seed in seeds]
    runs = sum(len(problem.runs) + RANK for problem in problems)
    return Section(
        title="Incremental learning in matrix sensing",
        paper=JIN,
        introduction=INTRODUCTION,
        settings=_settings(seeds),
        claims=claims(problems),
        figures=[
            Picture.of(
                _plot(problems),
                f"Left: distances to W_1, W_2 and W_3 over their norms from a start of {INIT_SCALES[-1]:g}, "
                "first seed. Middle: losses from all starts; dotted: those of W_1 and W_2. Right: least "
                "distances, medians and extremes over the seeds; dotted: how far the best approximations of "
                "the matrix are (medians).",
            )
        ],
        tables=[ResultTable(_table(problems), "Least distances, medians over the seeds.")],
        work=[Work("sensing", (DIM, DIM, DIM), MEASURED, runs * STEPS)],
    )


def _settings(seeds: range) -> dict[str, str]:
    return {
        "matrix": f"{DIM} × {DIM}, eigenvalues {', '.join(map('{:g}'.format, SINGULAR_VALUES))}",
        "measurements": f"{MEASURED}, independent Gaussian matrices",
        "gradient descent": f"{STEPS:,} steps of {LEARNING_RATE:g} on the mean squared residual",
        "start": "Gaussian U; its scale is about that of the singular values of U Uᵀ",
        "seeds": f"{len(seeds)}, each with its own matrix, measurements and starts",
    }


def _table(problems: Sequence[SensingProblem]) -> pa.Table:
    rows = []
    for place, scale in enumerate(INIT_SCALES):
        runs = [problem.wide()[place] for problem in problems]
        row: dict[str, float] = {"scale": scale}
        for rank in range(1, 1 + RANK):
            row[f"least distance to W_{rank}"] = float(np.median([run.least(rank) for run in runs]))
        for rank in range(1, 1 + RANK):
            row[f"nearest to W_{rank} at step"] = float(np.median([run.nearest(rank) for run in runs]))
        rows.append(row)
    return pa.Table.from_pylist(rows)


def _plot(problems: Sequence[SensingProblem]) -> Figure:
    figure, ((distances, losses, least),) = new_figure(columns=3, panel_width=4.0)
    first, styles = problems[0], CURVE_STYLES[1:]
    smallest = first.wide()[-1]
    steps = EVERY * np.arange(len(smallest.losses))
    shown = slice(None, np.searchsorted(steps, _SHOWN_STEPS), 2)
    for rank, style in zip(range(1, 1 + RANK), styles, strict=False):
        draw_curve(distances, steps[shown], smallest.distances[shown, rank - 1], style, f"to W_{rank}")
    for one, style in zip(first.wide(), CURVE_STYLES, strict=False):
        draw_curve(losses, steps[shown], one.losses[shown], style, f"from {one.scale:g}")
    for one in first.narrow()[:-1]:
        losses.axhline(one.losses[-1], color="black", linestyle=":", linewidth=1)
    for rank, style in zip(range(1, RANK), styles, strict=False):
        spread = [
            [problem.wide()[place].least(rank) for problem in problems] for place in range(len(INIT_SCALES))
        ]
        draw_spread(least, INIT_SCALES, spread, style, f"W_{rank}")
        median = float(np.median([problem.truncation[rank - 1] for problem in problems]))
        least.axhline(median, color=style["color"], linestyle=":", linewidth=1)
    distances.set(yscale="log", xlabel="step", ylabel="relative distance")
    losses.set(yscale="log", ylim=(1e-6, None), xlabel="step", ylabel="train loss")
    least.set(xscale="log", yscale="log", xlabel="scale of the start", ylabel="least relative distance")
    least.invert_xaxis()
    for axes in (distances, losses, least):
        add_legend(axes)
    return figure
