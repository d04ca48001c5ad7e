"""Pictures of singular values, singular vectors and velocities along runs of gradient descent."""

from __future__ import annotations

import matplotlib
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes

from dmf_fast.experiments.dynamics.figure3_claims import moving
from dmf_fast.experiments.dynamics.singular_dynamics import LEADING, Runs
from dmf_fast.experiments.running.columns import column
from dmf_fast.figure_style import (
    CURVE_STYLES,
    DEPTH_STYLES,
    add_legend,
    draw_curve,
    new_figure,
)
from dmf_fast.page.content import Picture

_WIDTH, _HEIGHT = 3.2, 2.6
_MOST_DOTS = 100


def draw_dynamics(name: str, runs: Runs, value_scale: str) -> Picture:
    """Draw singular values and alignment against time, one column of panels per depth.

    ``value_scale`` is the scale of the axis of singular values: ``"linear"`` or ``"log"``.
    """
    figure, panels = new_figure(len(runs), 2, panel_width=_WIDTH, panel_height=_HEIGHT)
    for (values, alignment), (depth, states) in zip(panels.T, runs.items(), strict=True):
        _draw_singular_values(values, states)
        values.set(title=f"depth {depth}", yscale=value_scale)
        _draw_alignment(alignment, states)
        alignment.set_xlabel("time (steps × learning rate)")
    panels[0, 0].set_ylabel("singular values")
    panels[1, 0].set_ylabel("mean size in $U^T \\nabla\\ell(W)\\,V$")
    add_legend(panels[1, 0])
    return Picture.of(
        figure,
        f"{name}. Top: the {LEADING} leading singular values of the product, the largest darkest. Bottom: "
        "mean sizes of the entries of Uᵀ ∇ℓ(W) V on and off the diagonal, for its leading singular vectors "
        "and (thin) for all; off the diagonal they are zero where these are singular vectors of the "
        "gradient too.",
    )


def draw_theory(runs: Runs) -> Picture:
    """Draw velocities compared with theorem 3, one panel per depth from 2 on, and the balancedness."""
    deep = {depth: states for depth, states in runs.items() if depth >= 2}
    figure, panels = new_figure(len(deep) + 1, panel_width=_WIDTH, panel_height=_HEIGHT)
    for axes, (depth, states) in zip(panels[0], deep.items(), strict=False):
        _draw_velocities(axes, depth, states)
        draw_curve(
            panels[0, -1],
            column(states, "time")[1:],
            column(states, "relative_balancedness")[1:],
            DEPTH_STYLES[depth],
            f"depth {depth}",
        )
    panels[0, 0].set_ylabel("velocity per unit of gradient")
    panels[0, -1].set(xlabel="time", ylabel="relative balancedness", yscale="log", title="balancedness")
    add_legend(panels[0, -1])
    return Picture.of(
        figure,
        "The random matrix. Velocities of the moving singular values over the component of the gradient "
        "that moves them, |dσ_r/dt| / |⟨∇ℓ(W), u_r v_rᵀ⟩|: measured over a step (dots), N σ^(2−2/N) of "
        "theorem 3 (line), and with the exponent of one factor more (dashes). Right: how far the factors are "
        "from balanced, relative to the largest ‖W_j‖_F².",
    )


def _draw_singular_values(axes: Axes, states: pa.Table) -> None:
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, LEADING))
    values = column(states, "singular_values")
    for place in range(LEADING):
        axes.plot(column(states, "time"), values[:, place], color=shades[place], linewidth=1.4)


def _draw_alignment(axes: Axes, states: pa.Table) -> None:
    times = column(states, "time")[1:]  # at the start the vectors are arbitrary
    for name, style, label in (
        ("diagonal", CURVE_STYLES[1], "diagonal"),
        ("off_diagonal", CURVE_STYLES[2], "off it"),
    ):
        draw_curve(axes, times, column(states, name)[1:], style, label)
        of_all = column(states, f"{name}_of_all")[1:]
        axes.plot(times, of_all, color=style["color"], linewidth=1, alpha=0.7, label=f"{label}, all vectors")
    axes.set_yscale("log")


def _draw_velocities(axes: Axes, depth: int, states: pa.Table) -> None:
    values, measured, predicted = moving(states)
    exponent, wrong_exponent = 2 - 2 / depth, 2 - 2 / (depth + 1)
    factors = depth * values**exponent
    color = DEPTH_STYLES[depth]["color"]
    every = max(1, len(values) // _MOST_DOTS)
    axes.plot(
        values,
        factors * measured / predicted,
        ".",
        color=color,
        markersize=5,
        markevery=every,
        label="measured",
    )
    line = np.geomspace(values.min(), values.max(), 50)
    axes.plot(line, depth * line**exponent, color="black", linewidth=1, label="theorem 3")
    axes.plot(
        line,
        depth * line**wrong_exponent,
        "--",
        color="0.5",
        linewidth=1,
        label=f"exponent of depth {depth + 1}",
    )
    axes.set(xscale="log", yscale="log", xlabel="singular value", title=f"depth {depth}")
    add_legend(axes, loc="lower right")
