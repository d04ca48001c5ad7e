"""Douglas–Rachford splitting of the nuclear norm and a data term.

Lions & Mercier, "Splitting Algorithms for the Sum of Two Nonlinear Operators" (1979); Combettes & Pesquet,
"Proximal Splitting Methods in Signal Processing" (2011), section 4; with over-relaxation, Eckstein &
Bertsekas (1992). Since the data term depends only on Ω, the iterate is always the sum of the relaxed matrix,
of low rank, and a sparse one, ``−step`` times the relaxed dual.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_fast.convex.data_terms import DataTerm
from dmf_fast.convex.low_rank import LowRank
from dmf_fast.convex.solution import ConvexOptions, ConvexSolution
from dmf_fast.convex.thresholding import Thresholding

_RELAXATION = 1.8  # from 1 (none) to below 2; measured: compared with 1, it at least halves the iterations
_ITERATIONS_A_CHECK = 10
# Until then each check may change the step, afterwards only one at each doubling of the iterations, since the
# splitting converges for a constant step.
_ITERATIONS_WITH_NEW_STEPS = 100
# It decreases more slowly than it increases, since the dual may be feasible by chance.
_LEAST_CHANGE_OF_STEP, _LARGEST_CHANGE_OF_STEP = 2 / 3, 10.0


@dataclass
class State:
    """The current ``matrix``, ``dual`` (on Ω) and step, and the relaxed dual."""

    matrix: LowRank
    dual: Tensor
    step: float

    def __post_init__(self) -> None:
        self.relaxed_dual = self.dual


def solve_by_splitting(
    term: DataTerm, threshold: Thresholding, state: State, options: ConvexOptions
) -> ConvexSolution:
    """Minimize ``‖W‖_* + term(W_Ω)`` from ``state`` until the certificate is within the tolerance."""
    solution, _ = _certified(term, threshold, state, 0, options.tolerance)
    for iteration in range(1, options.iterations + 1):
        if solution.converged:
            break
        nearest = _iterate(term, threshold, state)
        if iteration % _ITERATIONS_A_CHECK == 0 or iteration == options.iterations:
            solution, dual_norm = _certified(term, threshold, state, iteration, options.tolerance)
            if _may_change_step(iteration):
                apart = _relative(_entries(threshold, state.matrix) - nearest, threshold.observed.values)
                state.step *= _change_of_step(apart, dual_norm - 1)
    return solution


def _iterate(term: DataTerm, threshold: Thresholding, state: State) -> Tensor:
    """Make one iteration; return the minimizer of the data term, which the entries of the matrix approach."""
    shifted = threshold.relaxed_entries() - state.step * state.relaxed_dual
    nearest = term.proximal(shifted, state.step)
    state.dual = (nearest - shifted) / state.step
    sparse = state.step * (2 * state.dual - state.relaxed_dual)
    state.matrix = threshold(sparse, state.step, _RELAXATION)
    state.relaxed_dual = torch.lerp(state.relaxed_dual, state.dual, _RELAXATION)
    return nearest


def _may_change_step(iteration: int) -> bool:
    rounds, rest = divmod(iteration, _ITERATIONS_WITH_NEW_STEPS)
    return rounds == 0 or (rest == 0 and rounds.bit_count() == 1)


def _change_of_step(primal: float, dual: float) -> float:
    """Return the factor for the step that balances the primal and the dual residual.

    ``primal`` is the relative distance of the entries of the matrix from the minimizer of the data term, and
    ``dual`` is by how much the operator norm of the dual exceeds 1; a larger step reduces the latter faster.
    See Boyd et al., "Distributed Optimization and Statistical Learning via the Alternating Direction Method
    of Multipliers" (2011), section 3.4.1.
    """
    if primal == 0:
        return 1.0
    ratio = math.sqrt(max(dual, 0.0) / primal)
    return min(max(ratio, _LEAST_CHANGE_OF_STEP), _LARGEST_CHANGE_OF_STEP)


def _certified(
    term: DataTerm, threshold: Thresholding, state: State, iteration: int, tolerance: float
) -> tuple[ConvexSolution, float]:
    """Return the current solution and the operator norm of its dual."""
    entries = _entries(threshold, state.matrix)
    largest_violation = float(term.violation(entries).abs().max())
    violation = largest_violation / term.size
    objective = state.matrix.nuclear_norm + term.value(entries)
    dual_norm = threshold.operator_norm(state.dual, tolerance / 10)
    lower_bound = term.dual_bound(state.dual, dual_norm)
    gap = abs(objective - lower_bound)
    solution = ConvexSolution(
        state.matrix,
        objective,
        lower_bound,
        violation,
        largest_violation,
        gap <= tolerance * objective and violation <= tolerance,
        iteration,
        state.dual,
        state.step,
    )
    return solution, dual_norm


def _entries(threshold: Thresholding, matrix: LowRank) -> Tensor:
    return threshold.observed.entries_of(matrix.left * matrix.singular_values, matrix.right)


def _relative(difference: Tensor, to: Tensor) -> float:
    """Return ``‖difference‖ / ‖to‖``, or ``‖difference‖`` if ``‖to‖`` is 0."""
    norm, size = float(torch.linalg.vector_norm(difference)), float(torch.linalg.vector_norm(to))
    return norm / size if size > 0 else norm
