"""AdaptiveGradientDescent against its formula for plain numbers, and on functions that it must solve."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from dmf_fast.optim import AdaptiveGradientDescent

CURVATURES = [1.0, 10.0, 0.5]
DECAY = 0.25


def by_hand(start: list[float], lrs: list[float], steps: int) -> list[float]:
    """Minimise ``Σ c x² / 2 + DECAY x² / 2``, whose gradient is ``(c + DECAY) x``."""
    curvatures = [curvature + DECAY for curvature in CURVATURES]
    x = start
    gradient = [c * v for c, v in zip(curvatures, x, strict=True)]
    size, growth = 1e-3 * math.hypot(*x) / math.hypot(*gradient), math.inf
    for _ in range(steps):
        moved = [v - lr * size * g for v, lr, g in zip(x, lrs, gradient, strict=True)]
        new = [c * v for c, v in zip(curvatures, moved, strict=True)]
        distance, turn = math.dist(moved, x), math.dist(new, gradient)
        next_size = min(math.sqrt(1 + growth) * size, distance / (2 * turn))
        x, gradient, growth, size = moved, new, next_size / size, next_size
    return x


def loss_of(parameters: list[Tensor]) -> Tensor:
    numbers = torch.cat([parameter.flatten() for parameter in parameters])
    return (torch.tensor(CURVATURES, dtype=numbers.dtype) * numbers.square()).sum() / 2


@pytest.mark.parametrize("lrs", [[1.0, 1.0], [1.0, 0.5]])
@pytest.mark.parametrize("steps", [1, 2, 30])
def test_steps_are_those_of_the_formula(lrs: list[float], steps: int) -> None:
    parameters = [
        torch.nn.Parameter(torch.tensor(numbers, dtype=torch.float64)) for numbers in ([[2.0], [-1.0]], [3.0])
    ]
    groups = [{"params": [p], "lr": lr} for p, lr in zip(parameters, lrs, strict=True)]
    optimizer = AdaptiveGradientDescent(groups, weight_decay=DECAY)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(parameters).backward()
        optimizer.step()
    result = torch.cat([parameter.detach().flatten() for parameter in parameters]).tolist()
    assert result == pytest.approx(by_hand([2.0, -1.0, 3.0], [lrs[0], lrs[0], lrs[1]], steps), rel=1e-10)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_it_needs_no_learning_rate_whatever_the_scale_of_the_loss(scale: float) -> None:
    weight = torch.nn.Parameter(torch.tensor([3.0, -2.0, 5.0], dtype=torch.float64))
    optimizer = AdaptiveGradientDescent([weight])
    for _ in range(200):
        optimizer.zero_grad()
        (scale * loss_of([weight])).backward()
        optimizer.step()
    assert weight.detach().norm().item() < 1e-6


def test_a_loaded_state_resumes_bit_identically() -> None:
    weight = torch.nn.Parameter(torch.tensor([3.0, -2.0, 5.0]))
    optimizer = AdaptiveGradientDescent([weight], weight_decay=0.1)

    def steps(optimizer: torch.optim.Optimizer, weight: Tensor, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            loss_of([weight]).backward()
            optimizer.step()

    steps(optimizer, weight, 7)
    twin = torch.nn.Parameter(weight.detach().clone())
    loaded = AdaptiveGradientDescent([twin], weight_decay=0.1)
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(optimizer, weight, 9)
    steps(loaded, twin, 9)
    assert torch.equal(weight, twin)


def test_a_start_at_the_minimum_and_a_start_at_zero_stay_finite() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = AdaptiveGradientDescent([weight])
    for _ in range(5):
        optimizer.zero_grad()
        loss_of([weight]).backward()
        optimizer.step()
    assert torch.equal(weight, torch.zeros(3))
    for _ in range(200):
        optimizer.zero_grad()
        (weight - 1).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.ones(3), rtol=0, atol=1e-4)


def test_parameters_without_a_gradient_are_left_alone() -> None:
    used, unused = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    optimizer = AdaptiveGradientDescent([used, unused])
    optimizer.step()
    used.square().sum().backward()
    optimizer.step()
    assert torch.equal(unused, torch.ones(2))
    assert not torch.equal(used, torch.ones(2))


@pytest.mark.parametrize("option", ["lr", "weight_decay"])
def test_a_negative_option_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"`{option}` must be at least 0, got -1"):
        AdaptiveGradientDescent([torch.nn.Parameter(torch.ones(1))], **{option: -1.0})


@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1e-21, 1e21, 1e30, 1e37])
def test_gradients_whose_squares_leave_float32_give_the_steps_of_others(scale: float) -> None:
    weights = [torch.nn.Parameter(torch.tensor([3.0, -2.0, 5.0])) for _ in range(2)]
    for weight, factor in zip(weights, (1.0, scale), strict=True):
        optimizer = AdaptiveGradientDescent([weight])
        for _ in range(20):
            weight.grad = factor * torch.tensor(CURVATURES) * weight.detach()
            optimizer.step()
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-4, atol=1e-5)


def test_a_gradient_that_is_not_finite_shows_in_the_parameters_and_raises_nothing() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = AdaptiveGradientDescent([weight])
    for _ in range(3):
        weight.grad = torch.tensor([math.inf, 1.0])
        optimizer.step()
    assert not weight.isfinite().all()
