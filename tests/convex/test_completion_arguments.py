"""What the solvers refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from dmf_fast import Observations
from dmf_fast.convex import minimum_nuclear_norm, nuclear_norm_path, nuclear_norm_regression

TRAIN = Observations([0, 1, 2], [0, 1, 1], [1.0, 2.0, 3.0], (3, 2))


@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf])
def test_an_epsilon_out_of_range_is_named(value: float) -> None:
    with pytest.raises(ValueError, match=rf"^`epsilon` must be (finite|at least 0), got {value}$"):
        minimum_nuclear_norm(TRAIN, value)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_regularization_out_of_range_is_named(value: float) -> None:
    expected = rf"must be (finite|above 0), got {value}$"
    with pytest.raises(ValueError, match="^`regularization` " + expected):
        nuclear_norm_regression(TRAIN, value)
    with pytest.raises(ValueError, match="^`regularizations` " + expected):
        nuclear_norm_path(TRAIN, [1.0, value])


@pytest.mark.parametrize("value", ["0.1", True, None, [1.0], torch.ones(())])
def test_what_is_no_number_is_named(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^`epsilon` must be a number, got .*$"):
        minimum_nuclear_norm(TRAIN, value)
    with pytest.raises(TypeError, match=r"^`regularization` must be a number, got .*$"):
        nuclear_norm_regression(TRAIN, value)
    with pytest.raises(TypeError, match=r"^`regularizations` must be a number, got .*$"):
        nuclear_norm_path(TRAIN, [value])


@pytest.mark.parametrize("value", [1.0, torch.ones(()), None])
def test_regularizations_that_are_no_sequence_are_named(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^`regularizations` must be a sequence of numbers, got .*[^.]$"):
        nuclear_norm_path(TRAIN, value)


@pytest.mark.parametrize("value", [[[1.0, 2.0]], torch.ones(2, 2), None])
def test_what_are_no_observations_is_named(value: Any) -> None:
    expected = r"^`observations` must be dmf_fast\.Observations, got \w+; use Observations\.from_dense "
    for solve in (minimum_nuclear_norm, lambda given: nuclear_norm_regression(given, 1.0)):
        with pytest.raises(TypeError, match=expected):
            solve(value)


def test_a_constraint_takes_no_weights() -> None:
    weighted = TRAIN.with_values(TRAIN.values, weights=[1.0, 2.0, 3.0])
    with pytest.raises(
        ValueError, match=r"^`observations` must not have weights, .*; use observations\.with_va"
    ):
        minimum_nuclear_norm(weighted)


@pytest.mark.parametrize(
    ("other", "described"),
    [
        (Observations([0, 1], [0, 1], [1.0, 2.0], (3, 2)), r"2 of shape \(3, 2\)"),
        (TRAIN.transpose(), r"3 of shape \(2, 3\)"),
        (Observations([], [], [], (3, 2)), r"0 of shape \(3, 2\)"),
    ],
)
def test_a_start_of_other_entries_is_refused(other: Observations, described: str) -> None:
    start = nuclear_norm_regression(other, 1.0)
    expected = rf"^`start` must be a solution for these 3 entries of shape \(3, 2\), got one for {described}$"
    with pytest.raises(ValueError, match=expected):
        nuclear_norm_regression(TRAIN, 1.0, start=start)


def test_an_empty_path_has_no_solutions() -> None:
    assert nuclear_norm_path(TRAIN, []) == []
