"""Pictures of nuclear norms, quasi-norms and ranks at the end of gradient flow."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmf_fast.experiments.norms.commuting_claims import POWERS, excess, scales_of, schatten_ratios
from dmf_fast.experiments.running.columns import by_seed
from dmf_fast.figure_style import (
    CURVE_STYLES,
    DEPTH_STYLES,
    add_legend,
    draw_spread,
    new_figure,
)

_ACCURACY = 1e-6  # precision of the flows: smaller excesses are drawn here
_KINDS = {
    "commuting": "commuting",
    "off the basis": "start 1% off the basis",
    "not commuting": "not commuting",
}


def draw_commuting(flows: pa.Table) -> Figure:
    """Draw the excess of the nuclear norm, the Schatten quasi-norms near a solution, and effective ranks."""
    figure, ((norms, quasi_norms, ranks),) = new_figure(columns=3, panel_width=3.7)
    for depth, style in DEPTH_STYLES.items():
        scales = scales_of(flows, depth)
        values = [np.maximum(excess(flows, "commuting", depth, scale), _ACCURACY) for scale in scales]
        draw_spread(norms, scales, values, style, f"depth {depth}")
    norms.set(xscale="log", yscale="log", xlabel="scale of the factors at the start", ylabel="excess")
    norms.set_xticks([10.0**-power for power in (0, 4, 8, 12, 16)])
    norms.minorticks_off()
    norms.invert_xaxis()
    add_legend(norms)

    shares = np.linspace(0, 1, 21)
    for power, style in zip(POWERS, CURVE_STYLES, strict=False):
        draw_spread(
            quasi_norms,
            shares,
            [schatten_ratios(flows, 3, power, share) for share in shares],
            style,
            f"p = {power:g}",
        )
    quasi_norms.set(xlabel="t", ylabel="Σ σ^p over that of the solution")
    add_legend(quasi_norms, loc="lower left")

    _draw_ranks(ranks, flows)
    return figure


def _draw_ranks(axes: Axes, flows: pa.Table) -> None:
    depths = sorted(set(flows.filter(pc.field("problem") == "not commuting")["depth"].to_pylist()))
    for (problem, name), style in zip(_KINDS.items(), CURVE_STYLES[1:], strict=False):
        values = []
        for depth in depths:
            (scale,) = scales_of(flows, depth, "not commuting")
            values.append(by_seed(flows, "effective_rank", problem=problem, depth=depth, init_scale=scale))
        draw_spread(axes, depths, values, style, name)
    axes.set(xlabel="depth", ylabel="effective rank", xticks=depths)
    add_legend(axes)
