"""Data terms: proximal points are minimizers, and dual bounds are what Fenchel's duality allows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from dmf_fast.convex.data_terms import DataTerm, SquaredError, Within


def numbers(*given: float) -> Tensor:
    return torch.tensor(given, dtype=torch.float64)


VALUES = numbers(1.0, -2.0, 0.5, 3.0)
WEIGHTS = numbers(1.0, 0.25, 4.0, 0.0)
ENTRIES = numbers(0.3, 1.0, 0.6, -1.0)
TERMS = {
    "within": Within(VALUES, 0.75),
    "equal": Within(VALUES, 0.0),
    "squares": SquaredError(VALUES, WEIGHTS, 0.8),
}


def penalty(name: str, place: int, x: float) -> float:
    """The data term of one entry by its definition, infinite where it is not allowed."""
    value, weight = float(VALUES[place]), float(WEIGHTS[place])
    if name == "squares":
        return weight * (x - value) ** 2 / 0.8
    epsilon = 0.75 if name == "within" else 0.0
    return 0.0 if abs(x - value) <= epsilon + 1e-12 else np.inf


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("step", [0.1, 1.0, 30.0])
def test_the_proximal_point_is_the_minimizer_entry_by_entry(name: str, step: float) -> None:
    found = TERMS[name].proximal(ENTRIES, step)
    for place, entry in enumerate(ENTRIES.tolist()):
        least = step * penalty(name, place, float(found[place])) + (float(found[place]) - entry) ** 2 / 2
        for other in np.linspace(-5, 5, 4_001):
            assert least <= step * penalty(name, place, other) + (other - entry) ** 2 / 2 + 1e-12


def test_violations_are_distances_from_the_intervals_with_their_sign() -> None:
    within = TERMS["within"].violation(ENTRIES)
    torch.testing.assert_close(within, numbers(0.0, 2.25, 0.0, -3.25))
    torch.testing.assert_close(TERMS["equal"].violation(ENTRIES), ENTRIES - VALUES)
    assert not TERMS["squares"].violation(ENTRIES).any()


def test_the_value_of_squares_is_their_weighted_sum_over_the_regularization() -> None:
    assert TERMS["squares"].value(ENTRIES) == pytest.approx((0.49 + 0.25 * 9 + 4 * 0.01) / 0.8)
    assert TERMS["within"].value(ENTRIES) == 0


DUALS = [numbers(0.5, -0.5, 0.25, 0.0), numbers(-1.0, 1.0, 0.0, 0.0), numbers(0.01, 2.0, 3.0, 0.0)]


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("dual", [*DUALS, numbers(0.0, 0.0, 0.0, 0.0)])
@pytest.mark.parametrize("norm", [0.3, 1.0, 5.0])
def test_the_dual_bound_is_the_largest_over_all_allowed_multiples(
    name: str, dual: Tensor, norm: float
) -> None:
    def proven(multiple: float) -> float:
        """The least of the data term and ``multiple ⟨dual, x⟩``, entry by entry."""
        slopes = multiple * dual.numpy()
        values, weights = VALUES.numpy(), WEIGHTS.numpy()
        if name == "squares":
            seen = weights > 0
            least = (slopes * values)[seen] - 0.8 * slopes[seen] ** 2 / (4 * weights[seen])
        else:
            least = slopes * values - (0.75 if name == "within" else 0.0) * np.abs(slopes)
        return float(least.sum())

    best = minimize_scalar(
        lambda multiple: -proven(multiple), bounds=(0, 1 / norm), method="bounded", options={"xatol": 1e-12}
    )
    expected = max(-best.fun, proven(1 / norm), 0.0)
    assert TERMS[name].dual_bound(dual, norm) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
def test_a_dual_of_zero_proves_zero(term: DataTerm) -> None:
    assert term.dual_bound(torch.zeros(4, dtype=torch.float64), 0.0) == 0


def test_a_dual_where_there_is_no_weight_proves_nothing() -> None:
    # There the entry may go to infinity at no cost.
    assert TERMS["squares"].dual_bound(numbers(0.5, 0.0, 0.0, 0.1), 1.0) == 0
