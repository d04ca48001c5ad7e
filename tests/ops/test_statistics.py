"""Sums over observed entries by the kernels are those of plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dmf_fast import Observations
from dmf_fast.ops.statistics import degrees, mean_value, spread
from tests.problems import PATTERNS, make_problem

DRAWN: dict[str, Any] = {
    "rows": st.integers(1, 40),
    "columns": st.integers(1, 40),
    "pattern": st.sampled_from(PATTERNS),
    "weighted": st.booleans(),
    "dtype": st.sampled_from([torch.float64, torch.float32]),
    "seed": st.integers(0, 99),
}


def drawn(rows: int, columns: int, **given: Any) -> Observations:
    return make_problem((columns, rows), **given).observations()


@given(**DRAWN)
def test_degrees_are_sums_of_weights(**given: Any) -> None:
    observations = drawn(**given)
    weights = None if observations.weights is None else observations.weights.double().numpy()
    for found, places, length in zip(
        degrees(observations), observations.coordinates(), observations.shape, strict=True
    ):
        assert found.dtype == torch.float64
        np.testing.assert_allclose(found, np.bincount(places, weights, length), rtol=1e-12)


@given(**DRAWN)
def test_mean_and_spread_are_weighted(**given: Any) -> None:
    observations = drawn(**given)
    values = observations.values.double().numpy()
    weights = np.ones(len(values)) if observations.weights is None else observations.weights.double().numpy()
    total = weights.sum() or 1.0
    mean = float((weights * values).sum() / total)
    assert mean_value(observations) == pytest.approx(mean, rel=1e-9, abs=1e-12)
    center = mean + 1.0
    root = math.sqrt((weights * (values - center) ** 2).sum() / total)
    assert spread(observations, center) == pytest.approx(root or 1.0, rel=1e-5)


def test_what_was_computed_once_is_known_of_these_observations_alone() -> None:
    one, other = Observations([0, 1], [0, 1], [1.0, 2.0]), Observations([0, 0], [0, 1], [3.0, 5.0])
    assert degrees(one)[0] is degrees(one)[0]
    assert degrees(other)[0].tolist() == [2.0]
    assert (mean_value(one), mean_value(other)) == (1.5, 4.0)
    assert mean_value(one.with_values([4.0, 6.0])) == 5.0


@pytest.mark.usefixtures("threads")
def test_sums_are_bit_identical_for_any_number_of_threads() -> None:
    observations = make_problem((900, 1100), density=0.05, weighted=True, seed=3).observations()
    found = [*degrees(observations), mean_value(observations), spread(observations, 0.25)]
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    again = observations.with_values(observations.values, observations.weights)
    others = [*degrees(again), mean_value(again), spread(again, 0.25)]
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(found[:2], others[:2], strict=True))  # type: ignore[arg-type]
    assert found[2:] == others[2:]
