"""The style of all figures: colors for color-blind readers, distinct lines and markers for gray print.

A curve style is a set of keywords for ``axes.plot``: ``axes.plot(x, y, **DEPTH_STYLES[2])``.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, TypedDict

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

FONT_SIZE = 10.0
SMALL_FONT_SIZE = 9.0
_MOST_MARKERS = 12


class CurveStyle(TypedDict):
    """Keywords of ``axes.plot`` that tell one curve from the others."""

    color: str
    marker: str
    linestyle: str | tuple[int, tuple[int, ...]]


# The colors are those of Okabe & Ito, "Color Universal Design", 2008, without yellow, too pale on white.
CURVE_STYLES = (
    CurveStyle(color="#CC79A7", marker="v", linestyle=":"),
    CurveStyle(color="#0072B2", marker="o", linestyle="-"),
    CurveStyle(color="#D55E00", marker="s", linestyle="--"),
    CurveStyle(color="#009E73", marker="^", linestyle="-."),
    CurveStyle(color="#E69F00", marker="D", linestyle=(0, (5, 1, 1, 1, 1, 1))),
    CurveStyle(color="#56B4E9", marker="P", linestyle=(0, (7, 2))),
)
"""Styles for curves of any kind; the first four are those of the depths."""

DEPTH_STYLES = dict(zip(range(1, 5), CURVE_STYLES, strict=False))
"""The style of every depth from 1 to 4, in every figure."""

NUCLEAR_NORM_STYLE = CurveStyle(color="#000000", marker="x", linestyle=(0, (2, 1)))
"""The style of the matrix of least nuclear norm, which the factorizations are compared with."""


def new_figure(
    columns: int,
    rows: int = 1,
    *,
    panel_width: float = 4.0,
    panel_height: float = 3.1,
    share_x: bool = False,
    share_y: bool = False,
    make: Callable[..., Figure] = Figure,
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes, an array of shape (rows, columns), sizes in inches.

    Unless ``make`` is `matplotlib.pyplot.figure`, no window or list keeps it: it is freed with the last
    reference of the caller.

    >>> figure, axes = new_figure(columns=2)
    >>> axes.shape
    (1, 2)
    """
    figure = make(figsize=(columns * panel_width, rows * panel_height), layout="constrained")
    panels: np.ndarray = figure.subplots(rows, columns, sharex=share_x, sharey=share_y, squeeze=False)
    for axes in panels.flat:
        axes.grid(color="0.9", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(which="both", labelsize=SMALL_FONT_SIZE)
    return figure, panels


def draw_curve(axes: Axes, x: ArrayLike, y: ArrayLike, style: CurveStyle, label: str | None = None) -> None:
    """Draw a line through the points, of shape (n,) both, with at most a dozen markers."""
    every = max(1, len(np.asarray(x)) // _MOST_MARKERS)
    axes.plot(x, y, **style, label=label, linewidth=1.6, markersize=4.5, markevery=every)


def draw_band(
    axes: Axes,
    x: ArrayLike,
    low: ArrayLike,
    middle: ArrayLike,
    high: ArrayLike,
    style: CurveStyle,
    label: str | None = None,
) -> None:
    """Draw a line through the middle, such as a median, and a light band from low to high, all of shape (n,).

    >>> figure, axes = new_figure(columns=1)
    >>> draw_band(axes[0, 0], [1, 2], [0, 1], [2, 3], [3, 4], DEPTH_STYLES[3], "depth 3")
    """
    axes.fill_between(x, low, high, color=style["color"], alpha=0.18, linewidth=0)
    draw_curve(axes, x, middle, style, label)


def draw_spread(
    axes: Axes, x: ArrayLike, values: ArrayLike, style: CurveStyle, label: str | None = None
) -> None:
    """Draw medians and a band from the least to the largest, for ``values`` of shape (n, seeds)."""
    numbers = np.asarray(values)
    draw_band(axes, x, numbers.min(1), np.median(numbers, 1), numbers.max(1), style, label)


def evenly(x: ArrayLike, y: ArrayLike, points: int) -> NDArray[np.intp]:
    """Return the positions of at most ``points`` points, evenly spaced along a path relative to its extent.

    >>> evenly([0, 1, 2, 3, 4], [0, 5, 10, 15, 20], points=3)
    array([0, 2, 4])
    """
    one, other = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    steps = np.hypot(*(np.diff(path) / (np.ptp(path) or 1.0) for path in (one, other)))
    lengths = np.concatenate(([0.0], steps.cumsum()))
    return np.unique(np.searchsorted(lengths, np.linspace(0, lengths[-1], points)))


def add_legend(where: Axes | Figure, **options: Any) -> None:
    """Add a legend in small type to axes, or to a figure, where ``loc="outside lower center"`` fits."""
    where.legend(**{"fontsize": SMALL_FONT_SIZE, "frameon": False, "handlelength": 3.0} | options)


def svg_text(figure: Figure) -> str:
    """Return the figure as SVG; the same figure always gives the same text.

    >>> svg_text(new_figure(columns=1)[0]).startswith("<?xml")
    True
    """
    for axes in figure.axes:
        axes.title.set_fontsize(FONT_SIZE)  # `set_title` resets it to that of rcParams
    text = io.StringIO()
    # Text stays text, which readers can search and copy; the salt makes ids, and so the file, reproducible.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dmf_fast"}):
        figure.savefig(text, format="svg", metadata=dict.fromkeys(["Creator", "Date", "Format", "Type"]))
    return text.getvalue()
