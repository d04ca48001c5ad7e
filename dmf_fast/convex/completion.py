"""Matrix completion by nuclear norm minimization."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from dmf_fast.checks import real_number
from dmf_fast.convex.data_terms import DataTerm, SquaredError, Within, root_mean_square
from dmf_fast.convex.douglas_rachford import State, solve_by_splitting
from dmf_fast.convex.low_rank import LowRank
from dmf_fast.convex.observed import ObservedEntries
from dmf_fast.convex.solution import ConvexOptions, ConvexSolution
from dmf_fast.convex.thresholding import DenseThresholding, Thresholding, TruncatedThresholding
from dmf_fast.observations import Observations
from dmf_fast.threads import one_thread

_MOST_NUMBERS_OF_SMALL = 40_000
_PRECISION_OF_A_START = 1e-3


def minimum_nuclear_norm(
    observations: Observations,
    epsilon: float = 0.0,
    options: ConvexOptions = ConvexOptions(),  # noqa: B008 (frozen)
) -> ConvexSolution:
    """Return ``argmin ‖W‖_*`` subject to ``|W_ij − b_ij| ≤ epsilon`` on Ω.

    Candès & Recht, "Exact Matrix Completion via Convex Optimization" (2009), problem 1.5, with a tolerance
    for each entry. It is solved by Douglas–Rachford splitting in float64, which stops by the duality gap.
    Without entries the solution is the zero matrix.

    Args:
        observations: ``b_ij`` of an ``(m, n)`` matrix, of any dtype and device, without weights.
        epsilon: in the unit of the values, at least 0.
        options: tolerances, iterations and decomposition.

    Returns:
        The solution, whose ``objective`` is ``‖W‖_*``. If it has converged, no entry deviates by more than
        ``(1 + tolerance) · epsilon`` or, with an epsilon of 0, ``tolerance`` times the root mean square of
        the values.

    Raises:
        TypeError: ``observations`` is not `Observations`, or ``epsilon`` is not a number.
        ValueError: ``epsilon`` is negative or not finite, or the observations have weights.

    Example:
        >>> ones = Observations([0, 0, 1], [0, 1, 0], [1.0, 1.0, 1.0])  # W_11 is not observed
        >>> minimum_nuclear_norm(ones, options=ConvexOptions(tolerance=1e-6)).matrix.dense().round(decimals=3)
        tensor([[1., 1.],
                [1., 1.]], dtype=torch.float64)

    """
    epsilon = real_number("epsilon", epsilon, least=0)
    observed = _observed(observations)
    if observations.weights is not None:
        raise ValueError(
            "`observations` must not have weights, which constraints cannot use, got weights; use "
            "observations.with_values(observations.values)"
        )
    # The margin uses about half of the allowed gap.
    margin = min(epsilon, options.tolerance * root_mean_square(observed.values)) / 2
    return _solved(observed, Within(observed.values, epsilon, margin), None, options)


def nuclear_norm_regression(
    observations: Observations,
    regularization: float,
    options: ConvexOptions = ConvexOptions(),  # noqa: B008 (frozen)
    *,
    start: ConvexSolution | None = None,
) -> ConvexSolution:
    """Return ``argmin Σ_Ω w_ij (W_ij − b_ij)² + regularization · ‖W‖_*``.

    Mazumder, Hastie & Tibshirani, "Spectral Regularization Algorithms for Learning Large Incomplete
    Matrices" (2010), problem 3 (there with a factor ½ on the squares). It is solved like
    `minimum_nuclear_norm`; the duality gap bounds the distance of the objective from its minimum.

    Args:
        observations: ``b_ij`` of an ``(m, n)`` matrix, with optional weights ``w_ij``.
        regularization: above 0. The solution is 0 if it is at least twice the largest singular value of the
            sparse matrix with entries ``w_ij b_ij``.
        options: tolerances, iterations and decomposition.
        start: initial solution, for another ``regularization`` of the same entries.

    Raises:
        TypeError: ``observations`` is not `Observations`, or ``regularization`` is not a number.
        ValueError: ``regularization`` is not finite and above 0, or ``start`` is for other entries.

    Example:
        >>> eye = Observations([0, 0, 1, 1], [0, 1, 0, 1], [5.0, 0.0, 0.0, 1.0])
        >>> nuclear_norm_regression(eye, 4.0).matrix.dense().round(decimals=2).diagonal()
        tensor([3., 0.], dtype=torch.float64)

    """
    regularization = real_number("regularization", regularization, above=0)
    observed = _observed(observations)
    if start is not None:
        _check_start(start, observed)
    term = SquaredError(observed.values, observed.weights, regularization)
    solution = _solved(observed, term, start, options)
    return replace(
        solution,
        objective=solution.objective * regularization,
        lower_bound=solution.lower_bound * regularization,
    )


def nuclear_norm_path(
    observations: Observations,
    regularizations: Sequence[float],
    options: ConvexOptions = ConvexOptions(),  # noqa: B008 (frozen)
) -> list[ConvexSolution]:
    """Return the solutions of `nuclear_norm_regression` along a path, each started from the previous one.

    Args:
        observations: ``b_ij`` of an ``(m, n)`` matrix, with optional weights ``w_ij``.
        regularizations: preferably decreasing, since ranks and times grow as they decrease.
        options: for each of them.

    Raises:
        TypeError, ValueError: as for `nuclear_norm_regression`.

    Example:
        >>> eye = Observations([0, 0, 1, 1], [0, 1, 0, 1], [5.0, 0.0, 0.0, 1.0])
        >>> [solution.matrix.rank for solution in nuclear_norm_path(eye, [20.0, 4.0, 1.0])]
        [0, 1, 2]

    """
    solutions: list[ConvexSolution] = []
    for regularization in _checked_sequence(regularizations):
        start = solutions[-1] if solutions else None
        solutions.append(nuclear_norm_regression(observations, regularization, options, start=start))
    return solutions


def _observed(observations: Observations) -> ObservedEntries:
    if not isinstance(observations, Observations):
        raise TypeError(
            f"`observations` must be dmf_fast.Observations, got {type(observations).__name__}; "
            "use Observations.from_dense or Observations.from_scipy"
        )
    return ObservedEntries(observations)


def _checked_sequence(regularizations: Sequence[float]) -> list[float]:
    try:
        given = list(regularizations)
    except TypeError:
        raise TypeError(f"`regularizations` must be a sequence of numbers, got {regularizations!r}") from None
    return [real_number("regularizations", each, above=0) for each in given]


def _check_start(start: ConvexSolution, observed: ObservedEntries) -> None:
    shape = (len(start.matrix.left), len(start.matrix.right))
    if len(start.dual) != observed.nnz or shape != observed.shape:
        raise ValueError(
            f"`start` must be a solution for these {observed.nnz} entries of shape {observed.shape}, got one "
            f"for {len(start.dual)} of shape {shape}"
        )


def _solved(
    observed: ObservedEntries, term: DataTerm, start: ConvexSolution | None, options: ConvexOptions
) -> ConvexSolution:
    if observed.nnz == 0:
        matrix = LowRank.zero(observed.shape, observed.device)
        return ConvexSolution(matrix, 0.0, 0.0, 0.0, 0.0, True, 0, observed.values, 1.0)
    with _threads_for(observed):
        state = _from_zero(observed) if start is None else State(start.matrix, start.dual, start.step)
        return solve_by_splitting(term, _thresholding(observed, state.matrix, options), state, options)


@contextmanager
def _threads_for(observed: ObservedEntries) -> Iterator[None]:
    """Use one thread for small matrices: more threads gain nothing and wait for each other if others run."""
    if torch.get_num_threads() == 1 or not _is_small(observed):
        yield
        return
    with one_thread():
        yield


def _from_zero(observed: ObservedEntries) -> State:
    # The dual is the direction in which the data pull the zero matrix; if that is the solution, it proves it.
    pull = observed.weights * observed.values
    norm = observed.operator_norm(pull, _PRECISION_OF_A_START)
    # The root mean square of the singular values of a full matrix with such entries; it adapts soon.
    size = float(torch.linalg.vector_norm(observed.values)) / math.sqrt(observed.nnz)
    step = size * math.sqrt(max(observed.shape))
    matrix = LowRank.zero(observed.shape, observed.device)
    return State(matrix, pull / norm if norm > 0 else pull, step or 1.0)


def _thresholding(observed: ObservedEntries, start: LowRank, options: ConvexOptions) -> Thresholding:
    dense = options.thresholding == "dense" or (options.thresholding == "auto" and _is_small(observed))
    return DenseThresholding(observed, start) if dense else TruncatedThresholding(observed, start)


def _is_small(observed: ObservedEntries) -> bool:
    rows, columns = observed.shape
    return rows * columns <= _MOST_NUMBERS_OF_SMALL
