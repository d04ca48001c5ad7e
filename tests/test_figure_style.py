"""How figures look: curves, bands and markers."""

from __future__ import annotations

import numpy as np
import pytest

from dmf_fast.figure_style import (
    CURVE_STYLES,
    DEPTH_STYLES,
    NUCLEAR_NORM_STYLE,
    draw_band,
    draw_curve,
    draw_spread,
    new_figure,
)


def test_curves_differ_in_grey_print_too() -> None:
    styles = [*CURVE_STYLES, NUCLEAR_NORM_STYLE]
    for key in ("color", "marker", "linestyle"):
        assert len({str(style[key]) for style in styles}) == len(styles)  # type: ignore[literal-required]


def test_a_spread_is_the_median_between_the_least_and_the_largest() -> None:
    _, ((axes,),) = new_figure(1)
    draw_spread(axes, [1.0, 2.0], [[5.0, 1.0, 2.0], [9.0, 7.0, 3.0]], DEPTH_STYLES[2], "depth 2")
    (line,) = axes.lines
    assert (line.get_label(), line.get_xydata().tolist()) == ("depth 2", [[1.0, 2.0], [2.0, 7.0]])
    (band,) = axes.collections
    assert {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()} >= {
        (1.0, 1.0), (1.0, 5.0), (2.0, 3.0), (2.0, 9.0),
    }  # fmt: skip


@pytest.mark.parametrize(("points", "every"), [(2, 1), (12, 1), (24, 2), (120, 10)])
def test_a_curve_has_about_a_dozen_markers(points: int, every: int) -> None:
    _, ((axes,),) = new_figure(1)
    draw_curve(axes, range(points), range(points), DEPTH_STYLES[1])
    assert axes.lines[0].get_markevery() == every


def test_a_long_band_has_a_dozen_markers() -> None:
    figure, axes = new_figure(columns=1)
    x = np.arange(1_000)
    draw_band(axes[0, 0], x, x, x, x, DEPTH_STYLES[3])
    assert len(x[:: axes[0, 0].lines[0].get_markevery()]) in (12, 13)
    assert figure.axes == [axes[0, 0]]
