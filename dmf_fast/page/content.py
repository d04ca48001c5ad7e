"""Figures and tables of a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure, as SVG text, and its caption."""

    svg: str
    caption: str

    @staticmethod
    def of(figure: Figure, caption: str) -> Picture:
        """Return a Matplotlib figure as a picture; the same figure always gives the same text."""
        from dmf_fast.figure_style import svg_text  # here, as pages without figures need no Matplotlib

        return Picture(svg_text(figure), caption)


@dataclass(frozen=True)
class ResultTable:
    """A table and its caption.

    Attributes:
        table: its columns; their names become the headings, with spaces for underscores.
        caption: its caption.
        digits: significant digits of numbers that are not integers.
        bars: names of the numeric columns that are also drawn as horizontal bars.

    """

    table: pa.Table
    caption: str
    digits: int = 3
    bars: tuple[str, ...] = ()
