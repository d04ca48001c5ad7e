"""When a run records a row of its history, and what the row holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from dmf_fast.options import Option, Options

DEFAULT_PER_DECADE = 20


@dataclass(frozen=True)
class Recording(Options):
    """When a run records a row and what the row holds; see `dmf_fast.training.History` for its columns.

    Step 0 and the last state of a run are always recorded. In between, steps are evenly spaced (``every``) or
    evenly spaced on a logarithmic scale (``per_decade``), which suits runs whose singular values grow one
    after the other at ever longer intervals.

    Raises:
        ValueError: both ``every`` and ``per_decade`` are given, or one of the numbers is out of range.
        TypeError: a number is not an integer, or a flag is neither True nor False.

    Example:
        >>> Recording(per_decade=3).next_step(2)
        5

    """

    every: Annotated[
        int | None,
        Option(
            "Steps between recorded rows.", least=1, none="they are not evenly spaced", key="evaluate_every"
        ),
    ] = None
    per_decade: Annotated[
        int | None,
        Option(
            "Recorded rows for every tenfold of the steps.",
            "Rows are at the steps 0, 1 and ``round(10^(k / per_decade))`` for k = 1, 2, …, each once.",
            least=1,
            most=1000,  # above, the powers below get long, and almost every step is recorded
            none=f"{DEFAULT_PER_DECADE}, unless ``every`` is given",
            key="",
        ),
    ] = None
    singular_values: Annotated[
        int | None,
        Option("How many of the largest singular values each row has.", least=0, none="all ``min(m, n)``"),
    ] = 0
    norms: Annotated[bool, Option("Record ``gradient_norm`` and ``parameter_norm``.")] = True
    spectrum: Annotated[
        bool, Option("Record ``effective_rank``, ``nuclear_norm`` and ``schatten_norm`` of the product.")
    ] = False
    balancedness: Annotated[bool, Option("Record how far the factors are from balanced.")] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.every is not None and self.per_decade is not None:
            raise ValueError(
                "`every` or `per_decade` must be None, since a run records by one of them, got "
                f"every={self.every!r}, per_decade={self.per_decade!r}"
            )

    def next_step(self, step: int) -> int:
        """Return the first step after ``step`` that is recorded.

        >>> Recording(every=10).next_step(-1), Recording(every=10).next_step(10)
        (0, 20)
        """
        if step < 0:
            return 0
        if self.every is not None:
            return (step // self.every + 1) * self.every
        return _next_logarithmic(step, self.per_decade or DEFAULT_PER_DECADE)

    def singular_value_count(self, shape: tuple[int, int]) -> int:
        """Return the number of singular values in a row of a run on an ``m × n`` matrix.

        >>> Recording(singular_values=None).singular_value_count((4, 3))
        3
        """
        return min(shape) if self.singular_values is None else min(self.singular_values, *shape)


def _next_logarithmic(step: int, per_decade: int) -> int:
    """Return the smallest ``round(10^(k / per_decade))`` above ``step``, exactly."""
    k = math.ceil(per_decade * math.log10(step + 0.5)) if step else 0
    while _rounds_to_at_least(step + 1, k - 1, per_decade):
        k -= 1
    while not _rounds_to_at_least(step + 1, k, per_decade):
        k += 1
    whole: int = round(10 ** (k // per_decade) * 10.0 ** (k % per_decade / per_decade))
    while not _rounds_to_at_least(whole, k, per_decade):
        whole -= 1
    while _rounds_to_at_least(whole + 1, k, per_decade):
        whole += 1
    return whole


def _rounds_to_at_least(whole: int, k: int, per_decade: int) -> bool:
    """Return whether ``round(10^(k / per_decade)) ≥ whole``, for ``whole`` ≥ 1; False for k below 0.

    That is ``10^(k/p) ≥ whole − 1/2``, or ``2^p · 10^k ≥ (2·whole − 1)^p``. The left side is even and the
    right side odd, so that there are no ties.
    """
    odd: int = (2 * whole - 1) ** per_decade
    return k >= 0 and 10**k << per_decade >= odd
