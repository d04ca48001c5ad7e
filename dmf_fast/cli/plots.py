"""Pictures of a job: the losses and the singular values of its models over the steps."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from dmf_fast.figure_style import new_figure
from dmf_fast.training import History
from dmf_fast.training.plots import draw_losses, draw_singular_values, has_singular_values


def losses_figure(histories: Mapping[str, History]) -> Figure:
    """Return a figure of the losses of every model, by its name."""
    figure, ((axes,),) = new_figure(1, panel_width=7, panel_height=4.5)
    for place, (model, history) in enumerate(histories.items(), start=1):
        draw_losses(axes, history, model, place=place)
    return figure


def singular_values_figure(histories: Mapping[str, History]) -> Figure | None:
    """Return a figure of the singular values of the product, one panel per model; None without any."""
    recorded = {model: history for model, history in histories.items() if has_singular_values(history)}
    if not recorded:
        return None
    figure, panels = new_figure(len(recorded), panel_width=4.5, panel_height=4, share_y=True)
    for axes, (model, history) in zip(panels.flat, recorded.items(), strict=True):
        draw_singular_values(axes, history, model)
    return figure
