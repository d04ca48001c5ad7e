"""Options, what they refuse, and numbers that solutions derive."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from dmf_fast.convex import ConvexOptions, ConvexSolution, LowRank


@pytest.mark.parametrize("value", [0.0, -1e-3, math.nan, math.inf])
def test_a_tolerance_out_of_range_is_named(value: float) -> None:
    with pytest.raises(ValueError, match=rf"^`tolerance` must be (finite|above 0), got {value}$"):
        ConvexOptions(tolerance=value)


@pytest.mark.parametrize("value", [None, "1e-3", True, [0.1], 1j])
def test_a_tolerance_that_is_no_number_is_named(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^`tolerance` must be a number, got .*$"):
        ConvexOptions(tolerance=value)


@pytest.mark.parametrize("value", [0, -5])
def test_too_few_iterations_are_named(value: int) -> None:
    with pytest.raises(ValueError, match=rf"^`iterations` must be at least 1, got {value}$"):
        ConvexOptions(iterations=value)


@pytest.mark.parametrize("value", [None, "10", 10.0, True])
def test_iterations_that_are_no_whole_number_are_named(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^`iterations` must be a whole number, got .*$"):
        ConvexOptions(iterations=value)


@pytest.mark.parametrize("value", ["sparse", "Dense", None, True, ["dense"]])
def test_an_unknown_thresholding_is_named_with_the_known_ones(value: Any) -> None:
    expected = r"^`thresholding` must be one of auto, dense, truncated, got .*$"
    with pytest.raises(ValueError, match=expected):
        ConvexOptions(thresholding=value)


def test_numbers_of_numpy_become_plain() -> None:
    options = ConvexOptions(np.float32(0.5), np.int64(7))
    assert type(options.tolerance) is float
    assert type(options.iterations) is int
    assert options == ConvexOptions(0.5, 7)


def solution(objective: float, lower_bound: float) -> ConvexSolution:
    matrix = LowRank.zero((2, 3), torch.device("cpu"))
    return ConvexSolution(matrix, objective, lower_bound, 0.0, 0.0, True, 0, torch.zeros(4), 1.0)


@pytest.mark.parametrize(
    ("objective", "lower_bound", "gap"),
    [(4.0, 3.0, 0.25), (4.0, 5.0, 0.25), (0.0, 0.0, 0.0), (2.0, 2.0, 0.0), (0.0, 1.0, math.inf)],
)
def test_the_relative_gap_is_the_distance_over_the_objective(
    objective: float, lower_bound: float, gap: float
) -> None:
    assert solution(objective, lower_bound).relative_gap == gap


def test_solutions_and_matrices_are_compared_by_identity() -> None:
    one, other = solution(1.0, 1.0), solution(1.0, 1.0)
    assert one == one
    assert one != other
    assert one.matrix != other.matrix
