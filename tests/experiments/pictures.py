"""What is drawn in the figures that tests look at; the fixture ``figures`` keeps pictures figures."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def curves(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """Return the curves of a panel by their label."""
    return {
        str(line.get_label()): (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist())
        for line in axes.lines
    }


def legends(figure: list[Axes]) -> list[int]:
    """Return which panels have a legend."""
    return [place for place, axes in enumerate(figure) if axes.get_legend() is not None]


def panels(figure: Any) -> list[Axes]:
    """Return the panels of a picture."""
    assert isinstance(figure, Figure)
    return list(figure.axes)
