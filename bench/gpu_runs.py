"""Block runs whose factors differ, several in one launch, against plain loops in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cache, partial

import torch
from torch import Tensor

from bench.gpu_operators import Check, error_of
from dmf_fast import Observations, reference
from dmf_fast.initialization import initialize
from dmf_fast.optim import GroupRMSprop
from dmf_fast.training import FitOptions, Recording, Trial, Trials, fit_many

STEPS = 40
TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-5}
ENGINES = {"cpu": "native", "cuda": "cuda_block"}
DIMS = ((90, 70), (90, 17, 70), (90, 100, 33, 70), (90, 20, 5, 31, 70))
RULES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "momentum": partial(torch.optim.SGD, lr=0.02, momentum=0.9),
    "group RMSprop": partial(GroupRMSprop, lr=3e-3),
    "Adam": partial(torch.optim.Adam, lr=1e-3),
}
KINDS = tuple(itertools.product(DIMS, RULES))


def trial(place: int, dtype: torch.dtype, device: str) -> Trial:
    """Return a run of one kind, with a start and a pattern of its own; every other one has weights."""
    dims, rule = KINDS[place]
    generator = torch.Generator().manual_seed(place)
    cells = torch.randperm(dims[-1] * dims[0], generator=generator)[: 500 + 100 * place]
    values = torch.randn(len(cells), generator=generator).to(dtype)
    weights = torch.rand(len(cells), generator=generator).to(dtype) if place % 2 else None
    entries = (cells // dims[0], cells % dims[0], values, (dims[-1], dims[0]))
    train = Observations(*entries, weights=weights, device=device)
    factors = initialize("gaussian", dims, 1.0, seed=place, dtype=dtype, device=device)
    options = FitOptions(steps=STEPS, progress=False, engine=ENGINES[device])  # type: ignore[arg-type]
    return Trial({"place": place}, factors, train, RULES[rule], options, Recording(every=STEPS, norms=False))


def checks(dtype: torch.dtype, device: str) -> Iterator[tuple[str, Check]]:
    """Yield the name of every run and what checks it: alone, and among all, in one launch on a GPU."""
    if dtype not in TOLERANCES:
        return
    given = cache(lambda place: trial(place, dtype, device))
    together = cache(lambda: fit_many([given(place) for place in range(len(KINDS))]))
    for place, (dims, rule) in enumerate(KINDS):
        expected = cache(lambda place=place: plain_loop(given(place), RULES[KINDS[place][1]]))
        name = f"of depth {len(dims) - 1} by {rule}"
        yield f"run {name}", partial(check, lambda place=place: fit_many([given(place)]), 0, expected, dtype)
        yield f"run among others {name}", partial(check, together, place, expected, dtype)


def check(
    make: Callable[[], Trials], place: int, expected: Callable[[], tuple[Tensor, ...]], dtype: torch.dtype
) -> tuple[float, str | None]:
    """Return the error of a run's factors, and what is wrong."""
    made = make().results[place]
    error = error_of(tuple(made.factors), expected())
    if made.result.engine != made.trial.options.engine:
        return error, f"made by {made.result.engine}"
    if not error <= TOLERANCES[dtype]:
        return error, f"off by {error:.1e}, {TOLERANCES[dtype]:.0e} is allowed"
    return error, None


def plain_loop(trial: Trial, rule: Callable[..., torch.optim.Optimizer]) -> tuple[Tensor, ...]:
    """Return the factors after the steps of a trial, made by autograd over the reference in float64."""
    train = trial.train.to("cpu").to(dtype=torch.float64)
    entries = (*train.coordinates(), train.values, train.weights)
    factors = [factor.cpu().to(torch.float64, copy=True).requires_grad_() for factor in trial.factors]
    optimizer = rule(factors)
    for _ in range(STEPS):
        optimizer.zero_grad()
        reference.completion_loss(factors, *entries).backward()
        optimizer.step()
    return tuple(factor.detach() for factor in factors)
