"""Pictures of the unobserved entry, the rank, and their bounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dmf_fast.experiments.norms.unbounded_runs import (
    LEARNING_RATES,
    LOSS_THRESHOLD,
    Curve,
    least_entry,
    most_effective_rank,
)
from dmf_fast.figure_style import (
    CURVE_STYLES,
    DEPTH_STYLES,
    CurveStyle,
    add_legend,
    draw_curve,
    evenly,
    new_figure,
)

_MOST_POINTS = 20
_SEEDS = 3  # more seeds look alike


def draw_norms_and_rank(growing: Sequence[Curve], resting: Sequence[Curve]) -> Figure:
    """Draw |W_11|, σ_2 and the effective rank of three seeds; above det W > 0, below det W < 0."""
    figure, panels = new_figure(columns=3, rows=2, panel_width=3.4, panel_height=2.6, share_x=True)
    names = {"entry": "|W_11|", "distance": "distance to rank 1, σ_2", "effective_rank": "effective rank"}
    for row, curves, sign in zip(panels, (growing, resting), "><", strict=True):
        for axes, (measure, name) in zip(row, names.items(), strict=True):
            for curve in [curve for curve in curves if curve.problem.seed < _SEEDS]:
                _draw(axes, curve, getattr(curve, measure), DEPTH_STYLES[curve.problem.depth])
            axes.set(xlabel="train loss", ylabel=name, xscale="log", yscale="log")
            axes.minorticks_off()
        row[1].set(title=f"det W {sign} 0 at the start", ylim=(1e-6, 2))
        row[0].set_ylim(1e-3, 200)
        row[2].set(yscale="linear", ylim=(0.95, 2.05))
    for depth in LEARNING_RATES:
        draw_curve(panels[0, 0], [], [], DEPTH_STYLES[depth], f"depth {depth}")
    loss = np.geomspace(growing[0].loss[-1], 0.3, _MOST_POINTS)
    bounds = (least_entry(loss), np.sqrt(3 * loss), most_effective_rank(loss))
    for axes, bound in zip(panels[0], bounds, strict=True):
        axes.plot(loss, bound, "k:", label="bound")
    panels[0, 0].set_xlim(1, LOSS_THRESHOLD)  # the loss falls to the right, as time goes
    add_legend(panels[0, 0], loc="lower right")
    return figure


def draw_random_starts(random: Sequence[Curve]) -> Figure:
    """Draw |W_11| against the loss from unbalanced starts, one panel per depth."""
    depths = sorted({curve.problem.depth for curve in random})
    figure, (panels,) = new_figure(columns=len(depths), panel_width=3.4, panel_height=2.7, share_y=True)
    for axes, depth in zip(panels, depths, strict=True):
        curves = [curve for curve in random if curve.problem.depth == depth]
        for curve in curves:
            # With fewer rows, a straight line across a jump of the entry would cross the bound.
            _draw_entry(axes, curve, CURVE_STYLES[1 if curve.last_determinant > 0 else 2], 3 * _MOST_POINTS)
        _draw_bound(axes, curves)
        axes.set(title=f"depth {depth}", ylim=(1e-2, 1e4))
    panels[0].set_ylabel("|W_11|")
    for style, name in ((CURVE_STYLES[1], "det W > 0 at the end"), (CURVE_STYLES[2], "det W < 0 at the end")):
        draw_curve(panels[0], [], [], style, name)
    add_legend(panels[0], loc="upper left")
    return figure


def draw_perturbed(perturbed: Sequence[Curve]) -> Figure:
    """Draw |W_11| against the loss for every value of W_22, one panel per depth, and the bounds."""
    depths = sorted({curve.problem.depth for curve in perturbed})
    values = sorted({curve.problem.observed.w_22 for curve in perturbed})
    styles = dict(zip(values, CURVE_STYLES[1:] + CURVE_STYLES[:1], strict=False))
    figure, (panels,) = new_figure(columns=len(depths), panel_width=3.4, panel_height=2.9, share_y=True)
    for axes, depth in zip(panels, depths, strict=True):
        curves = [curve for curve in perturbed if curve.problem.depth == depth]
        for value, style in styles.items():
            alike = [curve for curve in curves if curve.problem.observed.w_22 == value]
            for curve in alike:
                _draw_entry(axes, curve, style)
            _draw_bound(axes, alike, style["color"])
        axes.set(title=f"depth {depth}", ylim=(0.3, 300))
    panels[0].set_ylabel("|W_11|")
    for value, style in styles.items():
        draw_curve(panels[0], [], [], style, f"W_22 = {value:g}")
    add_legend(figure, loc="outside lower center", ncols=len(styles))
    return figure


def _draw_entry(axes: Axes, curve: Curve, style: CurveStyle, points: int = _MOST_POINTS) -> None:
    _draw(axes, curve, curve.entry, style, points)
    axes.set(xscale="log", yscale="log", xlabel="train loss", xlim=(1, LOSS_THRESHOLD))
    axes.minorticks_off()


def _draw(
    axes: Axes,
    curve: Curve,
    measure: NDArray[np.float64],
    style: CurveStyle,
    points: int = _MOST_POINTS,
) -> None:
    """Draw rows that are evenly spaced along the curve, with markers for the first seed."""
    log_loss, log_measure = np.log(np.maximum([curve.loss, np.nan_to_num(measure)], 1e-12))
    rows = evenly(log_loss, log_measure, points)
    if curve.problem.seed == 0:
        draw_curve(axes, curve.loss[rows], measure[rows], style)
    else:
        axes.plot(curve.loss[rows], measure[rows], color=style["color"], linestyle=style["linestyle"])


def _draw_bound(axes: Axes, curves: Sequence[Curve], color: str = "black") -> None:
    loss = np.geomspace(min(curve.loss[-1] for curve in curves), 0.3, _MOST_POINTS)
    bound = least_entry(loss, curves[0].problem.observed)
    axes.plot(loss[bound > 0], bound[bound > 0], color=color, linestyle=":", linewidth=1.2)
