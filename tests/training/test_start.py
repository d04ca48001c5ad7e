"""A run that never left its start says so, for every depth, start and engine."""

from __future__ import annotations

import warnings
from functools import partial

import pytest
import torch

from dmf_fast import DeepMatrixFactorization, Observations
from dmf_fast.optim import AdaptiveGradientDescent
from dmf_fast.training import FitOptions, fit

ENGINES = ["native", "torch"]


def ratings() -> Observations:
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(20, 2, generator=generator) @ torch.randn(2, 15, generator=generator)
    return Observations.from_dense(dense)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("initialization", ["gaussian", "balanced", "orthogonal"])
def test_factors_that_a_decay_keeps_at_zero_are_reported(
    engine: str, depth: int, initialization: str
) -> None:
    model = DeepMatrixFactorization(ratings().shape, depth, 5, 1e-4, initialization, seed=0)
    # At depth 2 zero is stable where the decay is stronger than the gradient, from depth 3 on with any decay.
    decay = 5.0 if depth == 2 else 0.5
    optimizer = partial(torch.optim.SGD, lr=1e-2, weight_decay=decay)
    with pytest.warns(UserWarning, match="has not left its start after 200 steps"):
        result = fit(model, ratings(), optimizer, FitOptions(steps=200, engine=engine))
    assert not result.left_start


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_factors_that_have_grown_are_not(engine: str, depth: int) -> None:
    model = DeepMatrixFactorization(ratings().shape, depth, 5, 0.1, "balanced", seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = fit(model, ratings(), AdaptiveGradientDescent, FitOptions(steps=200, engine=engine))
    assert result.left_start


def test_biases_that_are_learned_do_not_hide_factors_at_zero() -> None:
    model = DeepMatrixFactorization(ratings().shape, 3, 5, 1e-6, bias=True, seed=0)
    optimizer = partial(torch.optim.SGD, lr=0.05, weight_decay=0.1)
    with pytest.warns(UserWarning, match="lower the weight decay"):
        result = fit(model, ratings(), optimizer, FitOptions(steps=150))
    losses = result.history["train_loss"]
    assert losses[-1] < 0.99 * losses[0]
    assert not result.left_start


def test_a_run_of_a_few_steps_is_not_expected_to_have_left() -> None:
    model = DeepMatrixFactorization(ratings().shape, 3, 5, 1e-6, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = fit(model, ratings(), partial(torch.optim.SGD, lr=1e-3), FitOptions(steps=3))
    assert not result.left_start
