"""How experiments are run: the arguments that all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Extent = Literal["quick", "full", "paper-size"]


@dataclass(frozen=True)
class Reproduction:
    """How experiments are run.

    Attributes:
        folder: keeps every run that has ended; the same call again repeats none of them.
        quick: fewer seeds and steps: minutes become seconds.
        movielens: folder of MovieLens 100K, with ``u.data``, ``u1.base`` and ``u1.test``; without it the
            experiments on it say that they were not run.
        progress: bars on standard error: True, False, or None for only where that is a terminal.
        paper_size: matrix sensing with matrices as large as in the paper, which takes hours; without it they
            are half as large. All other experiments have the paper's sizes anyway.

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
        """What tqdm wants to know: whether to hide its bars, None for only where there is no terminal."""
        return None if self.progress is None else not self.progress

    @property
    def extent(self) -> Extent:
        """How much is run; what came of one extent is kept apart from the others.

        >>> Reproduction(Path("runs"), quick=True).extent
        'quick'
        """
        if self.quick:
            return "quick"
        return "paper-size" if self.paper_size else "full"
