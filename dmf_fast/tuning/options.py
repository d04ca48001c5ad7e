"""How long a search lasts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dmf_fast.options import Option, Options


@dataclass(frozen=True)
class TuningOptions(Options):
    """How long `dmf_fast.tuning.tune` searches.

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
