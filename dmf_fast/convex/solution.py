"""Options and solutions of the convex solvers."""

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
        TypeError: an option has the wrong type.

    """

    tolerance: Annotated[
        float,
        Option(
            "Maximum relative duality gap, and maximum violation of a constraint.",
            "The violation is relative to epsilon or, if that is 0, to the root mean square of the values.",
            above=0,
        ),
    ] = 1e-3
    iterations: Annotated[int, Option("Maximum number of iterations.", least=1)] = 2_000
    thresholding: Annotated[
        Thresholding,
        Option(
            "How matrices are decomposed.",
            '``"dense"`` forms ``(m, n)`` matrices; ``"truncated"`` does not, and computes only the singular '
            'triplets above the threshold; ``"auto"`` is dense for matrices of at most 40,000 numbers.',
        ),
    ] = "auto"


@dataclass(frozen=True, eq=False)
class ConvexSolution:
    """A low-rank solution with a certificate of its accuracy.

    Attributes:
        matrix: the solution: ``matrix.dense()``, or ``matrix.factors()`` for `dmf_fast.observed_product`.
        objective: the objective at ``matrix``.
        lower_bound: lower bound of the minimum: a dual value, valid whatever the iterations did. With
            truncated decompositions this relies on the Lanczos estimate of the largest singular value of the
            dual, which a random start misses with negligible probability.
        violation: largest violation of a constraint, relative to ``epsilon`` or, if that is 0, to the root
            mean square of the values; 0 without constraints.
        largest_violation: the same in the unit of the values.
        converged: whether gap and violation are within the tolerance; if not, the matrix is not a solution.
        iterations: number of iterations of this call.
        dual: ``(nnz,)``, float64, the dual solution in the order of the entries.
        step: final step of the splitting, which with ``matrix`` and ``dual`` initializes another call.

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
        """``|objective − lower_bound| / objective``; if the objective is 0, 0 or infinity."""
        gap = abs(self.objective - self.lower_bound)
        if self.objective == 0:
            return math.inf if gap else 0.0
        return gap / self.objective
