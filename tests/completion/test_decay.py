"""The unit of the decay means the same at every depth, and what it says about zero holds for real runs."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dmf_fast import Observations
from dmf_fast.completion import DecayUnit
from dmf_fast.completion.coordinates import Coordinates
from dmf_fast.completion.gradient import LeadingDirections
from dmf_fast.completion.spectral import balanced_factors
from dmf_fast.training import FitOptions, fit

POSITIVE = st.floats(1e-3, 1e3)


def penalty(singular_value: float, depth: int, decay: float) -> float:
    """Half the decay times the squares of all numbers of balanced factors with one singular value."""
    one = torch.eye(1, dtype=torch.float64)
    factors = balanced_factors(
        LeadingDirections(one, one[0], one), torch.tensor([singular_value], dtype=torch.float64), depth
    )
    return decay / 2 * sum(factor.square().sum().item() for factor in factors)


@given(POSITIVE, POSITIVE, st.integers(1, 6))
def test_the_slope_of_the_penalty_at_the_reference_is_that_of_the_noise(
    noise: float, reference: float, depth: int
) -> None:
    decay, step = DecayUnit(noise, reference).at_depth(depth), 1e-4 * reference
    around = [penalty(reference + side * step, depth, decay) for side in (-1, 1)]
    assert (around[1] - around[0]) / (2 * step) == pytest.approx(noise, rel=1e-4)


@given(POSITIVE, st.integers(1, 6))
def test_the_penalty_of_balanced_factors_is_a_schatten_quasi_norm(value: float, depth: int) -> None:
    assert penalty(value, depth, 2.0) == pytest.approx(depth * value ** (2 / depth), rel=1e-9)


@pytest.mark.parametrize("depth", [3, 4, 5])
@pytest.mark.parametrize("times", [0.7, 1.4])
def test_a_direction_survives_above_the_size_that_theory_says(depth: int, times: float) -> None:
    """One entry b: near zero the loss pulls s up with g = 2b, the decay pulls it down with λ_N s^(2/N−1)."""
    pull, decay = 2.0, 0.1
    threshold = (decay / pull) ** (depth / (depth - 2))
    root = (times * threshold) ** (1 / depth)
    factors = [torch.full((1, 1), root, dtype=torch.float64) for _ in range(depth)]
    train = Observations([0], [0], [1.0], dtype=torch.float64)
    rule = partial(torch.optim.SGD, lr=0.02, weight_decay=decay)
    steps = 20_000
    if times < 1:
        with pytest.warns(UserWarning, match="has not left its start"):
            fit(factors, train, rule, FitOptions(steps=steps))
    else:
        fit(factors, train, rule, FitOptions(steps=steps))
    product = math.prod(factor.item() for factor in factors)
    assert (product > 0.5) == (times > 1)


def test_a_unit_without_noise_decays_nothing() -> None:
    assert DecayUnit(0.0, 0.0).at_depth(3) == 0.0


def directions(values: list[float]) -> LeadingDirections:
    count = len(values)
    return LeadingDirections(torch.eye(count), torch.tensor(values), torch.eye(count))


def test_noise_is_the_median_of_up_to_64_leading_values() -> None:
    assert directions([9.0, 4.0, 1.0]).noise == 4.0
    assert directions([9.0, 4.0, 1.0, 0.5]).noise == 1.0  # the lower one, as torch has it
    assert directions([float(value) for value in range(200, 0, -1)]).noise == 168.0  # of 200 … 137


def test_near_zero_the_reference_is_a_small_part_of_where_noise_meets_the_curvature() -> None:
    """Noise over 0.39 pulls; 3% of u m n / (2 c²), for 4 rows, 3 columns and a spread of 2."""
    coordinates = Coordinates(0.0, 2.0, torch.ones(4), torch.ones(3), None, torch.float64, (4, 3))
    unit = DecayUnit.of_start(directions([9.0, 0.78, 0.1]), coordinates)
    assert unit.noise == pytest.approx(2.0)
    assert unit.reference == pytest.approx(0.03 * 2.0 * 12 / 8)


@pytest.mark.parametrize(
    ("values", "of_noise"),
    [
        ([float(value) for value in range(100, 0, -1)], 69.0),  # the 32nd
        ([50.0, 40.0, 30.0], 30.0),  # the last
        ([50.0, 40.0, 0.001], 0.4),  # at least a two hundredth of the reference of the start
    ],
)
def test_where_a_product_is_split_slopes_agree_well_above_its_noise(
    values: list[float], of_noise: float
) -> None:
    unit = DecayUnit(7.0, 80.0).of_product(directions([9.0, 0.39, 0.1]), torch.tensor(values))
    assert unit.noise == pytest.approx(1.0)
    assert unit.reference == pytest.approx(15 * of_noise)


@pytest.mark.parametrize(
    ("pull", "depth", "least"), [(0.5, 3, 0.125), (0.5, 4, 0.25), (1.0, 3, 1.0), (2.0, 4, 1.0), (0.0, 3, 0.0)]
)
def test_what_survives_grows_with_the_decay_up_to_the_reference(
    pull: float, depth: int, least: float
) -> None:
    unit = DecayUnit(noise=4.0, reference=9.0)
    assert unit.least_surviving(pull / 2, gradient=2.0, depth=depth) == pytest.approx(least)
