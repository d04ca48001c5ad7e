"""How experiments are run: the arguments that all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Reproduction:
    """How experiments are run.

    Attributes:
        folder: keeps every run that has ended; the same call again repeats none of them.
        quick: fewer seeds and steps: minutes become seconds.
        movielens: folder of MovieLens 100K, with ``u.data``, ``u1.base`` and ``u1.test``; without it the
            experiments on it say that they were not run.
        progress: bars on standard error: True, False, or None for only where that is a terminal.

    """

    folder: Path
    quick: bool = False
    movielens: Path | None = None
    progress: bool | None = None
