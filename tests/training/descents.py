"""Runs of `descend` that tests share, and the same as loops over the reference and torch's optimisers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dmf_fast import Observations, optim, reference
from dmf_fast.training import Adam, GradientDescent, GroupRMSprop, Rule
from tests.problems import Problem

RULES: dict[str, Rule] = {
    "gradient descent": GradientDescent(lr=0.1),
    "gradient descent with decay": GradientDescent(lr=0.1, weight_decay=0.01),
    "momentum": GradientDescent(lr=0.02, momentum=0.9),
    "momentum with decay": GradientDescent(lr=0.02, momentum=0.9, weight_decay=0.01),
    "group-rmsprop": GroupRMSprop(lr=3e-3),
    "group-rmsprop with decay": GroupRMSprop(lr=3e-3, alpha=0.9, eps=1e-3, weight_decay=0.01),
    "adam": Adam(lr=1e-3),
    "adam with decay": Adam(lr=1e-3, beta1=0.8, beta2=0.99, eps=1e-4, weight_decay=0.01),
}


def suited(rule: Rule, train: Observations, reduction: str) -> Rule:
    """Return the rule with a learning rate that suits the size of the gradients."""
    if reduction == "mean" or not isinstance(rule, GradientDescent):
        return rule
    return replace(rule, lr=rule.lr / train.total_weight, weight_decay=rule.weight_decay * train.total_weight)


def start(problem: Problem, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Return the factors of a problem as tensors to descend with."""
    return [factor.detach().to(dtype, copy=True) for factor in problem.factors]


def optimizer_of(rule: Rule, parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
    """Return the torch optimiser that a rule names."""
    if isinstance(rule, GradientDescent):
        return torch.optim.SGD(parameters, rule.lr, momentum=rule.momentum, weight_decay=rule.weight_decay)
    if isinstance(rule, GroupRMSprop):
        return optim.GroupRMSprop(parameters, rule.lr, rule.alpha, rule.eps, weight_decay=rule.weight_decay)
    betas = (rule.beta1, rule.beta2)
    return torch.optim.Adam(parameters, rule.lr, betas, rule.eps, rule.weight_decay)


def plain_descent(
    factors: Sequence[Tensor], train: Observations, rule: Rule, steps: Sequence[int], reduction: str = "mean"
) -> list[list[Tensor]]:
    """Return the factors after each number of ``steps``, which rise, made by a loop in plain PyTorch."""
    parameters = [factor.detach().clone().requires_grad_() for factor in factors]
    optimizer = optimizer_of(rule, parameters)
    entries = (train.rows, train.columns, train.values, train.weights)
    states = []
    for step in range(steps[-1] + 1):
        if step in steps:
            states.append([parameter.detach().clone() for parameter in parameters])
        optimizer.zero_grad()
        reference.completion_loss(parameters, *entries, reduction).backward()
        optimizer.step()
    return states


def assert_close(actual: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> None:
    """Compare every factor relative to its largest entry."""
    for place, (one, other) in enumerate(zip(actual, expected, strict=True)):
        error = (one.detach().double() - other.double()).abs().max() / other.abs().max()
        assert error <= tolerance, f"factor {place} is off by {error:.1e}"


def assert_equal(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Compare factors bit for bit."""
    for one, other in zip(actual, expected, strict=True):
        assert torch.equal(one, other)
