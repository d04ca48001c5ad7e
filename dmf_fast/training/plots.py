"""Plots of a history: its losses and its singular values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from dmf_fast.figure_style import CURVE_STYLES, add_legend, new_figure

Curves = Mapping[str, list[float]]
"""Numbers by the names of their columns, as in `dmf_fast.training.History`."""

_LOSSES = {
    "train_loss": ("train loss", "-"),
    "validation_rmse": ("validation RMSE", "--"),
    "test_rmse": ("test RMSE", ":"),
    "reconstruction_mse": ("reconstruction MSE", "-."),
}


def plot_history(history: Curves) -> list[Axes]:
    """Return the axes of a new pyplot figure: losses and, if recorded, singular values.

    >>> len(plot_history({"step": [0], "train_loss": [2.5], "singular_value_1": [0.1]}))
    2
    """
    from matplotlib import pyplot  # here, as drawing into existing axes does not need it

    draws = [draw_losses, *([draw_singular_values] if has_singular_values(history) else [])]
    _, panels = new_figure(len(draws), panel_width=5.0, panel_height=3.6, make=pyplot.figure)
    for draw, axes in zip(draws, panels.flat, strict=True):
        draw(axes, history)
    return list(panels.flat)


def draw_losses(axes: Axes, history: Curves, label: str = "", *, place: int = 1) -> None:
    """Draw all recorded losses, on a logarithmic axis if any of them is above 0.

    Args:
        axes: the axes to draw into.
        history: history of a run; further calls draw others into the same axes.
        label: name of the run in the legend.
        place: position of the run's color in `dmf_fast.figure_style.CURVE_STYLES`.

    Example:
        >>> _, ((axes,),) = new_figure(1)
        >>> draw_losses(axes, {"step": [0], "train_loss": [2.5]}, "depth 2")
        >>> axes.lines[0].get_label()
        'depth 2, train loss'

    """
    color = CURVE_STYLES[place % len(CURVE_STYLES)]["color"]
    for name, (text, line) in _LOSSES.items():
        if name in history and np.isfinite(history[name]).any():
            shown = f"{label}, {text}" if label else text
            axes.plot(*_curve(history, name), line, color=color, label=shown, linewidth=1.6)
    axes.set(xlabel=_horizontal(history), title="Losses")
    drawn = np.concatenate([[], *(line.get_ydata() for line in axes.lines)])
    if (np.isfinite(drawn) & (drawn > 0)).any():
        axes.set_yscale("log")
    if axes.lines:
        add_legend(axes)


def has_singular_values(history: Curves) -> bool:
    """Return whether singular values were recorded.

    >>> has_singular_values({"step": [0], "singular_value_1": [0.1]})
    True
    """
    return "singular_value_1" in history


def draw_singular_values(axes: Axes, history: Curves, label: str = "") -> None:
    """Draw every recorded singular value of the product.

    >>> _, ((axes,),) = new_figure(1)
    >>> draw_singular_values(axes, {"step": [0], "singular_value_1": [0.1]}, "depth 2")
    >>> axes.get_title()
    'Singular values, depth 2'
    """
    names = [name for name in history if name.startswith("singular_value_")]
    for place, name in enumerate(names, start=1):
        color = CURVE_STYLES[place % len(CURVE_STYLES)]["color"]
        axes.plot(*_curve(history, name), color=color, linewidth=1.2)
    axes.set(xlabel=_horizontal(history), title=f"Singular values, {label}" if label else "Singular values")


def _horizontal(history: Curves) -> str:
    """Return the column of the horizontal axis: steps, or time of gradient flow."""
    return "time" if "time" in history else "step"


def _curve(history: Curves, name: str) -> tuple[list[float], list[float]]:
    return history[_horizontal(history)], history[name]
