"""The arguments that all experiments share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Extent = Literal["quick", "full", "paper-size"]


@dataclass(frozen=True)
class Reproduction:
    """How experiments are run.

    Attributes:
        folder: keeps every finished run, which later calls do not repeat.
        quick: fewer seeds and steps: seconds instead of minutes.
        movielens: folder of MovieLens 100K, with ``u.data``, ``u1.base`` and ``u1.test``; without it,
            the experiments on it report that they were not run.
        progress: whether to show bars on standard error; None to show them if that is a terminal.
        paper_size: whether matrix sensing uses matrices as large as in the paper, which takes hours, instead
            of half as large. All other experiments always have the paper's sizes.

    Raises:
        ValueError: ``quick`` and ``paper_size`` are both True.

    """

    folder: Path
    quick: bool = False
    movielens: Path | None = None
    progress: bool | None = None
    paper_size: bool = False

    def __post_init__(self) -> None:
        if self.quick and self.paper_size:
            raise ValueError("`quick` and `paper_size` are mutually exclusive: set one of them")

    @property
    def hides_bars(self) -> bool | None:
        """The argument of tqdm: whether to hide its bars; None to hide them unless there is a terminal."""
        return None if self.progress is None else not self.progress

    @property
    def extent(self) -> Extent:
        """How much is run; the results of different extents are kept apart.

        >>> Reproduction(Path("runs"), quick=True).extent
        'quick'
        """
        if self.quick:
            return "quick"
        return "paper-size" if self.paper_size else "full"
