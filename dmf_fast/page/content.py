"""What a page shows apart from text: figures and tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure, as SVG text, and what it shows."""

    svg: str
    caption: str

    @staticmethod
    def of(figure: Figure, caption: str) -> Picture:
        """Return the picture of a Matplotlib figure; the same figure gives the same text every time."""
        from dmf_fast.figure_style import svg_text  # here, as pages without figures need no Matplotlib

        return Picture(svg_text(figure), caption)


@dataclass(frozen=True)
class ResultTable:
    """A table and what it shows.

    Attributes:
        table: its columns; their names become the headings, with spaces for underscores.
        caption: what it shows.
        digits: significant digits of numbers that are not integers.
        bars: names of the numeric columns that are also drawn as horizontal bars.

    """

    table: pa.Table
    caption: str
    digits: int = 3
    bars: tuple[str, ...] = ()
