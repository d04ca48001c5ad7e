"""Pictures of trajectories of singular values: predictions as lines, measurements as dots."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from dmf_fast.experiments.dynamics.closed_form import Numbers
from dmf_fast.experiments.dynamics.trajectories_runs import SingularValuePaths
from dmf_fast.figure_style import CURVE_STYLES, DEPTH_STYLES, add_legend, evenly, new_figure
from dmf_fast.page.content import Picture

_DOTS = 40


def draw_observed(observed: Sequence[SingularValuePaths]) -> Picture:
    """Draw σ_2 against σ_1 and both against time, for fully observed matrices."""
    figure, ((plane, *by_time),) = new_figure(columns=3, panel_width=3.6)
    for paths in observed:
        color = DEPTH_STYLES[paths.depth]["color"]
        (x, y), (dot_x, dot_y) = paths.predicted.T, paths.measured.T
        _draw(plane, x, y, dot_x, dot_y, color, f"depth {paths.depth}")
        for place, axes in enumerate(by_time):
            _draw(axes, paths.times, paths.predicted[:, place], paths.times, paths.measured[:, place], color)
    plane.set(xlabel="σ_1", ylabel="σ_2")
    for place, axes in enumerate(by_time, start=1):
        axes.set(xlabel="time (steps × learning rate)", ylabel=f"σ_{place}", xscale="log")
    add_legend(plane)
    return Picture.of(
        figure,
        "Everything observed. Left: the second singular value against the first; at depth 1 they keep their "
        "proportions. Middle and right: both against time.",
    )


def draw_followed(followed: Sequence[SingularValuePaths]) -> Picture:
    """Draw the trajectories of one seed, one panel per depth."""
    figure, (panels,) = new_figure(columns=len(followed), panel_width=3.2, panel_height=2.9)
    for axes, paths in zip(panels, followed, strict=True):
        for place, (measured, predicted) in enumerate(zip(paths.measured.T, paths.predicted.T, strict=True)):
            color = CURVE_STYLES[1 + place]["color"]
            _draw(axes, paths.times, predicted, paths.times, measured, color, f"σ_{place + 1}")
            axes.plot(paths.times, paths.contrast[:, place], color="0.6", linestyle="--", linewidth=1)
        axes.set(title=f"depth {paths.depth}", xlabel="time", ylim=(0, 1.2 * paths.measured.max()))
    panels[0].plot([], [], color="0.6", linestyle="--", linewidth=1, label="one factor more")
    panels[0].set_ylabel("singular values")
    add_legend(figure, handles=panels[0].get_legend_handles_labels()[0], loc="outside lower center", ncols=4)
    return Picture.of(
        figure,
        "A part observed, first seed: the leading singular values, predicted from their start on (lines), "
        "measured (dots), and what the theorem predicts of a chain with one factor more (dashes).",
    )


def _draw(
    axes: Axes, x: Numbers, y: Numbers, dot_x: Numbers, dot_y: Numbers, color: str, label: str | None = None
) -> None:
    """Draw a line, and dots evenly spaced along the trajectory in the panel."""
    axes.plot(x, y, color=color, linewidth=1.4, label=label)
    kept = evenly(dot_x, dot_y, _DOTS)
    axes.plot(dot_x[kept], dot_y[kept], ".", color=color, markersize=5)
