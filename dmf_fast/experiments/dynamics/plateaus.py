"""Plateaus of the effective rank when all entries are observed.

Chou, Gieshoff, Maly & Rauhut, "Gradient Descent for Deep Matrix Factorization: Dynamics and Implicit Bias
towards Low Rank" (preprint 2020; Applied and Computational Harmonic Analysis 68, 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from matplotlib.figure import Figure

from dmf_fast.experiments.dynamics.closed_form import symmetric_matrix
from dmf_fast.experiments.dynamics.plateaus_claims import STARTS, claims
from dmf_fast.experiments.dynamics.plateaus_measures import (
    SINGULAR_VALUES,
    Plateau,
    over_seeds,
    plateaus_of,
    predicted_length,
    rank_path,
)
from dmf_fast.experiments.page.papers import CHOU
from dmf_fast.experiments.page.section import Section
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_trials import run_trials, work_of
from dmf_fast.figure_style import (
    CURVE_STYLES,
    DEPTH_STYLES,
    add_legend,
    draw_curve,
    draw_spread,
    evenly,
    new_figure,
)
from dmf_fast.initialization import initialize
from dmf_fast.observations import Observations
from dmf_fast.page.content import Picture, ResultTable
from dmf_fast.spectrum import effective_rank
from dmf_fast.training import FitOptions, Recording, Trial, TrialResult

DIM = 20
LEARNING_RATES = {1: 1e-2, 2: 5e-3, 3: 2e-3, 4: 1e-3}
INIT_SCALES = {
    1: (1e-4,),
    2: (1e-2, 1e-4, 1e-6, 1e-8),
    3: (1e-2, 1e-3, 1e-4, 1e-6),
    4: (1e-2, 1e-3, 1e-4, 1e-5),
}

_HIGHEST = 6.0
"""Of the effective ranks that are drawn."""

INTRODUCTION = (
    "All entries of a matrix of rank 4 are observed, so only the path is of interest. "
    "From a small start gradient descent finds the largest singular values first and rests in between: the "
    "effective rank climbs in steps, from that of the best approximation of rank 1 to that of rank 2, and "
    "so on (dotted). The paper starts from multiples of the identity; Gaussian starts are drawn as well."
)


def run(reproduction: Reproduction) -> Section:
    """Descend from ever smaller starts at depths 1 to 4; raise `KeyboardInterrupt` after Ctrl-C."""
    seeds, scales = (range(1), slice(1, 3)) if reproduction.quick else (range(5), slice(None))
    trials = [
        _trial(start, depth, scale, seed)
        for start in STARTS
        for depth in LEARNING_RATES
        for scale in (INIT_SCALES[depth][scales] or INIT_SCALES[depth])
        # From the identity, all matrices with these singular values have the same trajectory.
        for seed in (seeds if start == "gaussian" else range(1))
    ]
    ended = run_trials(trials, reproduction, "plateaus").results
    plateaus = [plateau for one in ended for plateau in plateaus_of(one, projected_ranks())]
    return Section(
        title="Plateaus of the effective rank",
        paper=CHOU,
        introduction=INTRODUCTION,
        settings=_settings(seeds),
        claims=claims(ended, plateaus),
        figures=[
            Picture.of(
                _plot_ranks(ended),
                "Effective rank from multiples of the identity (top) and Gaussian factors (bottom), first "
                "seed; dotted: the effective ranks of the best approximations of ranks 1 to 4.",
            ),
            Picture.of(
                _plot_durations(plateaus),
                "How long the plateaus at ranks 1 to 3 last, from when one singular value reaches half of "
                "its final value to when the next one does: from Gaussian starts, medians and extremes over "
                "the seeds; dotted: of the closed form, from multiples of the identity.",
            ),
        ],
        tables=[
            ResultTable(
                _table(plateaus),
                "The plateaus from the two smallest scales of every depth, medians over the seeds.",
            )
        ],
        work=work_of(ended),
    )


def target(seed: int) -> np.ndarray:
    """Return a random positive semidefinite matrix with the singular values `SINGULAR_VALUES`."""
    return symmetric_matrix(DIM, SINGULAR_VALUES, seed)


def projected_ranks() -> list[float]:
    """Return the effective ranks of the best approximations of all ranks from 1 on.

    >>> [round(rank, 2) for rank in projected_ranks()]
    [1.0, 1.89, 2.6, 3.12]
    """
    values = torch.tensor(SINGULAR_VALUES, dtype=torch.float64)
    return [float(effective_rank(values[:rank])) for rank in range(1, 1 + len(values))]


def _settings(seeds: range) -> dict[str, str]:
    return {
        "matrix": f"symmetric, {DIM} × {DIM}, with singular values "
        f"{', '.join(map('{:g}'.format, SINGULAR_VALUES))}; all entries observed",
        "learning rates": ", ".join(f"{lr:g} at depth {depth}" for depth, lr in LEARNING_RATES.items()),
        "effective rank": "of Roy & Vetterli, as in Arora et al. 2019",
        "start": "multiples of the identity, and Gaussian factors of as large a product",
        "seeds": f"{len(seeds)}, each with its own matrix and Gaussian start; 1 of the identity, as all "
        "matrices with these singular values then have the same path",
    }


def _trial(start: str, depth: int, scale: float, seed: int) -> Trial:
    return Trial(
        {"start": start, "depth": depth, "init_scale": scale, "seed": seed},
        initialize(start, (DIM,) * (depth + 1), scale, seed=seed, dtype=torch.float64),
        Observations.from_dense(target(seed)),
        partial(torch.optim.SGD, lr=LEARNING_RATES[depth]),
        FitOptions(steps=1_000_000, reduction="sum", train_loss_threshold=1e-6),
        Recording(per_decade=200, singular_values=len(SINGULAR_VALUES), spectrum=True),
    )


def _table(plateaus: Sequence[Plateau]) -> pa.Table:
    rows = []
    for start in STARTS:
        flat, lengths = (over_seeds(plateaus, start, name) for name in ("flat", "length"))
        for (depth, rank), by_scale in lengths.items():
            if depth == 1:
                continue
            said = {scale: [predicted_length(rank, scale, depth)] for scale in by_scale}
            rows += [
                {
                    "start": start,
                    "depth": depth,
                    "L": rank,
                    "scale": scale,
                    "length": float(np.median(by_scale[scale])),
                    "of the closed form": said[scale][0],
                    "flat part": float(np.median(flat[depth, rank][scale])),
                }
                for scale in sorted(by_scale)[:2]
            ]
    return pa.Table.from_pylist(rows)


def _plot_ranks(ended: Sequence[TrialResult]) -> Figure:
    figure, panels = new_figure(
        len(INIT_SCALES), len(STARTS), panel_width=3.0, panel_height=2.5, share_y=True
    )
    scales = sorted({float(one.trial.labels["init_scale"]) for one in ended}, reverse=True)
    styles = dict(zip(scales, CURVE_STYLES, strict=False))
    for one in ended:
        start, depth, scale, seed = (
            one.trial.labels[name] for name in ("start", "depth", "init_scale", "seed")
        )
        if seed == 0:
            axes = panels[list(STARTS).index(str(start)), list(INIT_SCALES).index(int(depth))]
            times, ranks = rank_path(one)
            kept = 1 + evenly(np.log(times[1:]), np.minimum(ranks[1:], _HIGHEST), points=40)
            draw_curve(axes, times[kept], ranks[kept], styles[float(scale)])
    for row, name in zip(panels, STARTS.values(), strict=True):
        for axes, depth in zip(row, INIT_SCALES, strict=True):
            axes.set(xscale="log", xlim=(0.02, None), ylim=(0.8, _HIGHEST), title=f"depth {depth}")
            for level in projected_ranks():
                axes.axhline(level, color="black", linestyle=":", linewidth=1)
        row[0].set_ylabel(f"effective rank,\n{name}")
    for axes in panels[-1]:
        axes.set_xlabel("time (steps × learning rate)")
    for scale, style in styles.items():
        draw_curve(panels[0, 0], [], [], style, f"scale {scale:g}")
    handles, _ = panels[0, 0].get_legend_handles_labels()
    add_legend(figure, handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _plot_durations(plateaus: Sequence[Plateau]) -> Figure:
    depths = [depth for depth in LEARNING_RATES if depth >= 2]
    figure, (panels,) = new_figure(columns=len(SINGULAR_VALUES) - 1, panel_width=3.6, share_y=True)
    lengths = over_seeds(plateaus, "gaussian", "length")
    for rank, axes in enumerate(panels, start=1):
        for depth in depths:
            by_scale = lengths[depth, rank]
            draw_spread(axes, list(by_scale), list(by_scale.values()), DEPTH_STYLES[depth], f"depth {depth}")
            axes.plot(
                list(by_scale),
                [predicted_length(rank, scale, depth) for scale in by_scale],
                "k:",
                linewidth=1,
            )
        axes.set(xscale="log", yscale="log", xlabel="scale of the start", title=f"plateau at rank {rank}")
        axes.invert_xaxis()
    panels[0].set_ylabel("time")
    add_legend(panels[0])
    return figure
