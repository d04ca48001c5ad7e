"""What a convex solver is asked for and what it returns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor

from dmf_fast.convex.low_rank import LowRank
from dmf_fast.options import Option, Options

Thresholding = Literal["auto", "dense", "truncated"]


@dataclass(frozen=True)
class ConvexOptions(Options):
    """When a solver stops, and how it decomposes matrices.

    Raises:
        ValueError: an option is out of range.
        TypeError: an option is of another type.

    """

    tolerance: Annotated[
        float,
        Option(
            "Largest relative duality gap, and largest violation of a constraint.",
            "The violation is relative to epsilon; where that is 0, to the root mean square of the values.",
            above=0,
        ),
    ] = 1e-3
    iterations: Annotated[int, Option("Most iterations.", least=1)] = 2_000
    thresholding: Annotated[
        Thresholding,
        Option(
            "How matrices are decomposed.",
            '``"dense"`` forms ``(m, n)`` matrices; ``"truncated"`` never does and finds only the singular '
            'triples above the threshold; ``"auto"`` forms those of at most 40,000 numbers.',
        ),
    ] = "auto"


@dataclass(frozen=True, eq=False)
class ConvexSolution:
    """A matrix of low rank and the certificate of how good it is.

    Attributes:
        matrix: the solution: ``matrix.dense()``, or ``matrix.factors()`` for `dmf_fast.observed_product`.
        objective: what is minimized, at ``matrix``.
        lower_bound: no matrix has a smaller objective. It is a dual value, whatever the iterations did; with
            truncated decompositions up to the 1e-6 of a largest singular value.
        violation: how far the entry that is worst goes beyond its constraint, relative to ``epsilon``, or to
            the root mean square of the values where that is 0; 0 without constraints.
        largest_violation: the same in the unit of the values.
        converged: whether gap and violation are within the tolerance. Without it the matrix is no solution.
        iterations: made by this call.
        dual: ``(nnz,)``, float64, the dual solution, in the order of the entries.
        step: the step of the splitting at the end, with ``matrix`` and ``dual`` the start of a next call.

    """

    matrix: LowRank
    objective: float
    lower_bound: float
    violation: float
    largest_violation: float
    converged: bool
    iterations: int
    dual: Tensor
    step: float

    @property
    def relative_gap(self) -> float:
        """``|objective − lower_bound|`` over the objective; where that is 0, 0 or infinite."""
        gap = abs(self.objective - self.lower_bound)
        if self.objective == 0:
            return math.inf if gap else 0.0
        return gap / self.objective
