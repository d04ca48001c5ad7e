"""Mean, scales and biases of the coordinates of a job: numbers by hand."""

from __future__ import annotations

import math

import pytest
import torch

from dmf_fast import Observations
from dmf_fast.completion import CompletionOptions
from dmf_fast.completion.coordinates import Coordinates
from dmf_fast.evaluation import Biases, Shrinkage

# Weighted mean 2; around it 1 and −1 with weights 3 and 3, 0 with 2: a spread of √(6/8).
TRAIN = Observations(
    [0, 0, 1], [0, 1, 0], [3.0, 1.0, 2.0], (2, 2), weights=[3.0, 3.0, 2.0], dtype=torch.float64
)
OPTIONS = CompletionOptions(degree_exponent=1.0)


def of(shrinkage: Shrinkage | None, options: CompletionOptions = OPTIONS) -> Coordinates:
    return Coordinates.of(TRAIN, options, None if shrinkage is None else Biases.fit(TRAIN, shrinkage))


def test_mean_spread_and_scales_are_those_of_the_weighted_entries() -> None:
    found = of(None)
    assert (found.mean, found.shape, found.dtype) == (2.0, (2, 2), torch.float64)
    assert found.spread == pytest.approx(math.sqrt(6 / 8))
    # Degrees 6 and 2 of the rows: scales fall with their root, with a mean square of 1 over the entries.
    assert found.row_scale.tolist() == pytest.approx([math.sqrt(4 / 6), math.sqrt(4 / 2)])
    assert found.column_scale.tolist() == pytest.approx([math.sqrt(4 / 5), math.sqrt(4 / 3)])


def test_without_centering_the_spread_is_around_zero() -> None:
    found = of(None, CompletionOptions(center=False, degree_exponent=0.0))
    assert found.mean == 0.0
    assert found.spread == pytest.approx(math.sqrt((27 + 3 + 8) / 8))
    assert found.row_scale.tolist() == found.column_scale.tolist() == [1.0, 1.0]


def test_a_bias_that_is_shrunk_more_has_a_smaller_scale() -> None:
    model = of(Shrinkage(rows=12.0, columns=0.75)).without_factors()
    # A half for the usual shrinkage of 3; four times that halves it, a quarter doubles it.
    assert model.bias_scales == pytest.approx((0.25, 1.0))
    assert of(None).without_factors().row_bias is None


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_without_factors_there_are_biases_alone(depth: int) -> None:
    biases = Biases.fit(TRAIN, Shrinkage(2.0, 5.0))
    model = of(Shrinkage(2.0, 5.0)).without_factors(depth)
    assert [tuple(factor.shape) for factor in model.factors] == [
        *[(1, 2)] * (depth > 1), *[(1, 1)] * (depth - 2), *[(2, 1)] * (depth > 1), *[(2, 2)] * (depth == 1),
    ]  # fmt: skip
    expected = biases.mean + biases.row_biases[:, None] + biases.column_biases
    predicted = model.predict([0, 0, 1, 1], [0, 1, 0, 1]).tolist()
    assert predicted == pytest.approx(expected.flatten().tolist())


def test_learned_biases_are_taken_as_they_are() -> None:
    learned = torch.tensor([1.0, 2.0]).double(), torch.tensor([3.0, 4.0]).double()
    model = of(Shrinkage()).model([torch.zeros(2, 2)], learned)
    assert [bias.tolist() for bias in model.biases] == [[1.0, 2.0], [3.0, 4.0]]
    assert model.factors[0].dtype == torch.float64
