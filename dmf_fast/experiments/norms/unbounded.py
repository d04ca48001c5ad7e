"""A completion problem that is fitted by growing without bound: no norm is kept small, the rank is.

Razin & Cohen, "Implicit Regularization in Deep Learning May Not Be Explainable by Norms" (NeurIPS 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dmf_fast.experiments.page.figure_style import DEPTH_STYLES, add_legend, draw_curve, new_figure
from dmf_fast.experiments.page.section import Claim, Picture, ResultTable, Section, verdict
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.cached_trials import run_trials, work_of
from dmf_fast.experiments.running.columns import column
from dmf_fast.observations import Observations
from dmf_fast.training import FitOptions, Recording, Trial, TrialResult

# Stable up to W_11 ≈ 150: the curvature grows like W_11^(2 − 2/N).
LEARNING_RATES = {2: 1e-2, 3: 2e-3, 4: 8e-4}
INIT_SCALE = 1e-2
LOSS_THRESHOLD = 1e-8
SMALL_LOSS = 1e-3
MEASURES = ("train_loss", "test_rmse", "singular_value_2", "effective_rank")
COLUMNS = ("depth", "determinant", "seed", "step", *MEASURES)
COLUMN_NAMES = ["depth", "sign of det W", "seed", "steps", "train loss", "|W_11|", "σ_2", "effective rank"]

INTRODUCTION = (
    "With ε = √(3 · train loss), the root of the sum of the squared residuals, |W_12| and |W_21| are at least"
    " 1 − ε and |W_22| is at most ε. Gradient flow from balanced factors keeps the sign of det W = W_11 W_22"
    " − W_12 W_21. While it is positive and ε < 1, |W_11| > (1 − ε)² / ε: the unobserved entry, and with it"
    " every norm, goes to infinity as the loss goes to zero. The distance to rank 1 goes to zero: σ_2 = det W"
    " / σ_1 < |W_11 W_22| / |W_11| ≤ ε. A negative determinant entails neither."
)


def run(reproduction: Reproduction) -> Section:
    """Descend from positive and negative determinants at depths 2 to 4; after Ctrl-C `KeyboardInterrupt`."""
    seeds, steps = (range(1), 1_000_000) if reproduction.quick else (range(3), 10_000_000)
    starts = [(depth, sign, seed) for depth in LEARNING_RATES for sign in (1, -1) for seed in seeds]
    ended = run_trials([_trial(*start, steps) for start in starts], reproduction, "norms")
    curves = [Curve.of(one) for one in ended.results]
    positive, negative = ([curve for curve in curves if curve.determinant == sign] for sign in (1, -1))
    summary = ended.summary()
    return Section(
        title="Fitting without bound: norms against rank",
        introduction=INTRODUCTION,
        settings={
            "observed": "W_12 = 1, W_21 = 1 and W_22 = 0 of a 2 × 2 matrix",
            "start": f"balanced, eigenvalues of W ±{INIT_SCALE / 2:g} to ±{INIT_SCALE * 1.5:g}",
            "learning rates": ", ".join(f"{lr:g} at depth {depth}" for depth, lr in LEARNING_RATES.items()),
            "steps": f"{steps}, or to a train loss of {LOSS_THRESHOLD:g}, with {len(seeds)} seed(s)",
        },
        claims=[unbounded_entry(positive), falling_rank(positive), bounded_entry(negative)],
        figures=[Picture.of(_plot(positive, negative), "All seeds; dotted: bounds where det W > 0.")],
        tables=[ResultTable(summary.select(COLUMNS).rename_columns(COLUMN_NAMES), "The end of every run.")],
        work=work_of(ended.results),
    )


@dataclass(frozen=True)
class Curve:
    """A run: ``(rows,)`` of the loss, of |W_11|, of σ_2 and so on, NaN where not measured."""

    depth: int
    determinant: int
    loss: NDArray[np.float64]
    entry: NDArray[np.float64]
    distance: NDArray[np.float64]
    effective_rank: NDArray[np.float64]

    @staticmethod
    def of(one: TrialResult) -> Curve:
        """Return the curve of a trial."""
        rows = [column(one.result.history, name) for name in MEASURES]
        depth, determinant = (int(one.trial.labels[name]) for name in ("depth", "determinant"))
        return Curve(depth, determinant, *rows)

    def slope(self) -> float:
        """Return d log |W_11| / d(−log loss) over the last decade of the loss."""
        last = self.loss <= 10 * self.loss[-1]
        return float(np.polyfit(-np.log(self.loss[last]), np.log(self.entry[last]), 1)[0])


def _trial(depth: int, determinant: int, seed: int, steps: int) -> Trial:
    return Trial(
        {"depth": depth, "determinant": determinant, "seed": seed},
        start_factors(depth, determinant, seed),
        Observations([0, 1, 1], [1, 0, 1], [1.0, 1.0, 0.0], (2, 2), dtype=torch.float64),
        partial(torch.optim.SGD, lr=LEARNING_RATES[depth]),
        FitOptions(steps=steps, train_loss_threshold=LOSS_THRESHOLD),
        Recording(per_decade=40, singular_values=2, spectrum=True),
        test=Observations([0], [0], [0.0], (2, 2), dtype=torch.float64),  # its RMSE is |W_11|
    )


def start_factors(depth: int, determinant: int, seed: int) -> list[Tensor]:
    """Return balanced factors of a symmetric product whose determinant has the sign ``determinant``.

    The factors are one symmetric matrix, but for the sign of an eigenvalue of the last. At depth 2 that keeps
    W_2 = W_1ᵀ bit for bit. From other starts rounding unbalances the factors, and as σ_2 falls exponentially
    there, it soon turns the sign of the determinant, which gradient flow would keep.
    """
    angle, *sizes = np.random.default_rng(seed).random(3)
    axis = torch.tensor(
        [np.cos(2 * np.pi * angle), np.sin(2 * np.pi * angle)], dtype=torch.float64, device="cpu"
    )
    along = torch.outer(axis, axis)
    across = torch.eye(2, dtype=along.dtype, device=along.device) - along
    first, second = ((INIT_SCALE * (0.5 + size)) ** (1 / depth) for size in sizes)
    return [first * along + sign * second * across for sign in [1] * (depth - 1) + [determinant]]


def least_entry(loss: ArrayLike) -> NDArray[np.float64]:
    """Return what |W_11| exceeds where det W > 0: (1 − ε)² / ε, and 0 from ε = 1 on.

    >>> least_entry([1 / 12, 1.0])
    array([0.5, 0. ])
    """
    epsilon = np.sqrt(3 * np.asarray(loss, dtype=float))
    return np.where(epsilon < 1, (1 - epsilon) ** 2 / epsilon, 0.0)


def unbounded_entry(positive: Sequence[Curve]) -> Claim:
    """Return the claim that the unobserved entry grows without bound, from runs with det W > 0."""
    above = [bool((curve.entry >= least_entry(curve.loss)).all()) for curve in positive]
    rising = [bool((np.diff(curve.entry[curve.loss < 1 / 12]) > 0).all()) for curve in positive]
    fitted = [bool(curve.loss[-1] <= SMALL_LOSS) for curve in positive]
    slopes = [curve.slope() for curve in positive]
    return Claim(
        "From a positive determinant the unobserved entry, and with it every norm, grows without bound.",
        "Razin & Cohen 2020, theorem 1",
        f"From a positive determinant every loss ends at {SMALL_LOSS:g} or below; |W_11| ≥ (1 − ε)² / ε in "
        "every row with ε < 1; |W_11| rises from row to row once ε < 1/2; and its slope on −log loss, both "
        "logarithmic, is 0.4 to 0.6 over the last decade of the loss.",
        verdict(all(fitted + above + rising) and all(0.4 <= slope <= 0.6 for slope in slopes)),
        f"Fitted {sum(fitted)}, above the bound {sum(above)}, rising {sum(rising)} of {len(positive)} runs; "
        f"slopes {_range(slopes)}; |W_11| at the end {_range([curve.entry[-1] for curve in positive])}.",
    )


def falling_rank(positive: Sequence[Curve]) -> Claim:
    """Return the claim that the rank, unlike the norms, is driven down, from runs with det W > 0."""
    near = [bool((curve.distance**2 <= 3 * curve.loss)[curve.loss < 1 / 3].all()) for curve in positive]
    losses, ranks = ([getattr(curve, name)[-1] for curve in positive] for name in ("loss", "effective_rank"))
    return Claim(
        "There the effective rank falls to 1 and the distance to rank 1 to zero.",
        "Razin & Cohen 2020, theorem 2",
        f"From a positive determinant every loss ends at {SMALL_LOSS:g} or below, and the effective rank at "
        "1.01 or below; and σ_2 ≤ ε in every row with ε < 1.",
        verdict(bool(np.max(losses) <= SMALL_LOSS and np.max(ranks) <= 1.01 and all(near))),
        f"At the end losses {_range(losses)}, effective ranks at most {max(ranks):.5f}, σ_2 "
        f"{_range([curve.distance[-1] for curve in positive])}; σ_2 ≤ ε in {sum(near)} of {len(near)} runs.",
    )


def bounded_entry(negative: Sequence[Curve]) -> Claim:
    """Return the claim that the entry stays bounded, from runs with det W < 0."""
    changes = [float(np.ptp(curve.entry[curve.loss <= SMALL_LOSS])) for curve in negative]
    losses = [float(curve.loss[-1]) for curve in negative]
    return Claim(
        "From a negative determinant the same entries are fitted while the unobserved one stays bounded.",
        "The contrast to Razin & Cohen 2020, theorem 1, which asks for a positive determinant",
        f"From a negative determinant every loss ends at {LOSS_THRESHOLD:g} or below, and |W_11| varies by "
        f"less than 0.1 over the rows with a loss of {SMALL_LOSS:g} or below.",
        verdict(all(loss <= LOSS_THRESHOLD for loss in losses) and all(change < 0.1 for change in changes)),
        f"Losses at the end {_range(losses)}; variation of |W_11| {_range(changes)}; |W_11| at the end "
        f"{_range([curve.entry[-1] for curve in negative])}.",
    )


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}"


def _plot(positive: Sequence[Curve], negative: Sequence[Curve]) -> Figure:
    figure, panels = new_figure(columns=3, rows=2, panel_width=3.4, panel_height=2.6, share_x=True)
    names = {"entry": "|W_11|", "distance": "distance to rank 1, σ_2", "effective_rank": "effective rank"}
    for row, curves, sign in zip(panels, (positive, negative), "><", strict=True):
        for axes, (measure, name) in zip(row, names.items(), strict=True):
            for curve in curves:
                draw_curve(axes, curve.loss, getattr(curve, measure), DEPTH_STYLES[curve.depth])
            axes.set(xlabel="train loss", ylabel=name, xscale="log", yscale="log")
        row[1].set(title=f"det W {sign} 0 at the start", ylim=(1e-6, 2))
        row[0].set_ylim(1e-3, 200)
        row[2].set(yscale="linear", ylim=(0.95, 2.05))
    for depth in LEARNING_RATES:
        draw_curve(panels[0, 0], [], [], DEPTH_STYLES[depth], f"depth {depth}")
    loss = np.geomspace(positive[0].loss[-1], 0.3)
    panels[0, 0].plot(loss, least_entry(loss), "k:", label="bound")
    panels[0, 1].plot(loss, np.sqrt(3 * loss), "k:")
    panels[0, 0].set_xlim(1, LOSS_THRESHOLD)  # the loss falls to the right, as time goes
    add_legend(panels[0, 0])
    return figure
