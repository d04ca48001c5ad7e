"""Runs of `fit` that tests share, and the same as loops over the reference and torch's optimizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from dmf_fast import Observations, reference
from dmf_fast.optim import AdaptiveGradientDescent, GroupRMSprop
from dmf_fast.training import FitOptions, FitResult, Recording, fit
from tests import problems
from tests.problems import Problem, make_problem

Optimizer: TypeAlias = Callable[..., torch.optim.Optimizer]

PLAIN: dict[str, Optimizer] = {
    "gradient descent": partial(torch.optim.SGD, lr=0.1),
    "momentum": partial(torch.optim.SGD, lr=0.02, momentum=0.9),
    "group RMSprop": partial(GroupRMSprop, lr=3e-3),
    "Adam": partial(torch.optim.Adam, lr=1e-3),
    "adaptive": partial(AdaptiveGradientDescent, lr=0.5),
}
DECAYING: dict[str, Optimizer] = {
    "gradient descent with decay": partial(torch.optim.SGD, lr=0.1, weight_decay=0.01),
    "momentum with decay": partial(torch.optim.SGD, lr=0.02, momentum=0.9, weight_decay=0.01),
    "group RMSprop with decay": partial(GroupRMSprop, lr=3e-3, alpha=0.9, eps=1e-3, weight_decay=0.01),
    "Adam with decay": partial(torch.optim.Adam, lr=1e-3, betas=(0.8, 0.99), eps=1e-4, weight_decay=0.01),
    "adaptive with decay": partial(AdaptiveGradientDescent, lr=0.5, weight_decay=0.01),
}
RULES = PLAIN | DECAYING

DIMS = (9, 6, 4, 8)
RECORDING = Recording(every=10, singular_values=2)
SELDOM = Recording(every=10**9)
FEW_ROWS = Recording(every=10**9, norms=False)


def suited(optimizer: Any, train: Observations, reduction: str) -> Optimizer:
    """Return the optimizer with a learning rate that suits the size of the gradients."""
    if reduction == "mean" or optimizer.func is not torch.optim.SGD:
        return optimizer
    options, total = optimizer.keywords, train.total_weight
    decay = options.get("weight_decay", 0.0) * total
    return partial(optimizer.func, **(options | {"lr": options["lr"] / total, "weight_decay": decay}))


def start(problem: Problem, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Return the factors of a problem as tensors to train."""
    return [factor.detach().to(dtype, copy=True) for factor in problem.factors]


def problem(dims: tuple[int, ...] = DIMS) -> Problem:
    """The problem of most runs."""
    return make_problem(dims, density=0.5, weighted=True, seed=1)


def others(seed: int = 2) -> Observations:
    """Other entries of that shape, to validate and test on."""
    return make_problem((DIMS[0], DIMS[-1]), density=0.4, weighted=True, seed=seed).observations()


def noisy_rank_one() -> tuple[Observations, Observations]:
    """Entries of a matrix of rank 1 with noise, to train on and to validate on: runs from 0.6 overfit."""
    generator = torch.Generator().manual_seed(3)
    shape = (DIMS[-1], DIMS[0])
    sides = [torch.randn(size, generator=generator, dtype=torch.float64) for size in shape]
    noisy = torch.outer(*sides) + 0.6 * torch.randn(shape, generator=generator, dtype=torch.float64)
    chosen = torch.rand(shape, generator=generator) < 0.6
    train, validation = (
        Observations(*mask.nonzero(as_tuple=True), noisy[mask], shape, device=problems.DEVICE)
        for mask in (chosen, ~chosen)
    )
    return train, validation


def run(
    engine: str,
    steps: int = 300,
    *,
    optimizer: Any = RULES["momentum"],
    factors: list[Tensor] | None = None,
    train: Observations | None = None,
    dtype: torch.dtype = torch.float64,
    recording: Recording = RECORDING,
    **rest: Any,
) -> tuple[list[Tensor], FitResult]:
    """Train the problem of most runs; ``rest`` are options, or other arguments of `fit`."""
    names = {field.name for field in fields(FitOptions)}
    options = {name: rest.pop(name) for name in names & rest.keys()}
    factors = start(problem(), dtype) if factors is None else factors
    train = problem().observations() if train is None else train
    for name in {"validation", "test"} & rest.keys():
        rest[name] = None if rest[name] is None else rest[name].to(dtype=dtype)
    result = fit(
        factors,
        train.to(dtype=dtype),
        optimizer,
        FitOptions(steps=steps, engine=engine, **options),  # type: ignore[arg-type]
        recording=recording,
        **rest,
    )
    return factors, result


def plain_loop(
    factors: Sequence[Tensor],
    train: Observations,
    optimizer: Optimizer,
    steps: Sequence[int],
    reduction: str = "mean",
) -> list[list[Tensor]]:
    """Return the factors after each number of ``steps``, which rise, made by a loop in plain PyTorch."""
    parameters = [factor.detach().clone().requires_grad_() for factor in factors]
    bound = optimizer(parameters)
    entries = (*train.coordinates(), train.values, train.weights)
    states = []
    for step in range(steps[-1] + 1):
        if step in steps:
            states.append([parameter.detach().clone() for parameter in parameters])
        bound.zero_grad()
        reference.completion_loss(parameters, *entries, reduction).backward()
        bound.step()
    return states
