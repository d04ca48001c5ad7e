"""Options of a search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dmf_fast.options import Option, Options


@dataclass(frozen=True)
class TuningOptions(Options):
    """How long `dmf_fast.tuning.tune` searches, and how many trials run at once.

    Raises:
        TypeError: an option has the wrong type.
        ValueError: an option is out of range.

    Example:
        >>> TuningOptions(trials=10).seed
        0

    """

    trials: Annotated[
        int,
        Option("Number of trials.", "The first one has the initial options.", least=1),
    ] = 40
    max_seconds: Annotated[
        float | None,
        Option(
            "Start no more trials after this many seconds.",
            "With a limit, the result depends on the speed of the machine.",
            least=0,
        ),
    ] = None
    seed: Annotated[int, Option("Seed of the proposals.", least=0, key="")] = 0
    prune: Annotated[
        bool,
        Option(
            "Stop unpromising trials early.",
            "These are trials that are worse than the median of earlier ones at the same step.",
        ),
    ] = True
    parallel: Annotated[
        int,
        Option(
            "Number of trials that run at once, each with an equal share of the threads.",
            "They are proposed together, each assuming that the previous ones end badly (constant liar). "
            "Like the seed, this number affects the trials.",
            least=1,
        ),
    ] = 1
    journal: Annotated[
        Path | None,
        Option(
            "Optuna journal file for the trials, which several machines may share.",
            "Each machine runs ``parallel`` trials at once, and proposals depend on their speed.",
        ),
    ] = None
