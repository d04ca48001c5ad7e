"""How long a search lasts, and what runs at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dmf_fast.options import Option, Options


@dataclass(frozen=True)
class TuningOptions(Options):
    """How long `dmf_fast.tuning.tune` searches, and what runs at once.

    Raises:
        ValueError, TypeError: an option is out of range or not a number.

    Example:
        >>> TuningOptions(trials=10).seed
        0

    """

    trials: Annotated[
        int,
        Option("How many trials.", "The first has the settings that the search begins with.", least=1),
    ] = 40
    max_seconds: Annotated[
        float | None,
        Option(
            "After so many seconds no other trial begins.",
            "With a limit the result depends on the speed of the machine.",
            least=0,
        ),
    ] = None
    seed: Annotated[int, Option("Of the proposals.", least=0, key="")] = 0
    prune: Annotated[
        bool,
        Option(
            "End trials that are behind the others.",
            "That is where they are worse than the median of those before at the same step.",
        ),
    ] = True
    parallel: Annotated[
        int,
        Option(
            "How many trials run at once, each with its share of the threads.",
            "They are proposed together, each as if those before it were to end badly (a constant liar). "
            "The trials depend on this number as on the seed.",
            least=1,
        ),
    ] = 1
    journal: Annotated[
        Path | None,
        Option(
            "File of Optuna's that keeps the trials, which several machines may share.",
            "Each then runs ``parallel`` of them at once, and which are proposed depends on their speed.",
        ),
    ] = None
