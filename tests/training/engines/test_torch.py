"""The engine of torch's optimizers: any of them, closures, schedules, and small problems in one thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dmf_fast import completion_loss
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.training import FitOptions, Progress, fit
from tests.assertions import assert_close, assert_same
from tests.problems import make_problem
from tests.training.runs import PLAIN, RECORDING, plain_loop, problem, run, start

NAMES = ["AdamW", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "Adamax", "ASGD", "Rprop"]


@pytest.mark.parametrize("name", NAMES)
def test_any_optimizer_of_torch_makes_its_own_steps(name: str) -> None:
    optimizer = partial(getattr(torch.optim, name), lr=0.01)
    factors, result = run("auto", 50, optimizer=optimizer)
    assert (result.engine, result.not_native_because) == ("torch", f"{name} has no native step")
    expected = plain_loop(problem().factors, problem().observations(), optimizer, [50])[0]
    assert_close(factors, expected, 1e-9)


LBFGS = partial(torch.optim.LBFGS, max_iter=5, line_search_fn="strong_wolfe")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("bound", [False, True])
def test_an_optimizer_with_a_closure_is_called_with_one(bias: bool, bound: bool) -> None:
    train = problem().observations()
    model, twin = (
        DeepMatrixFactorization(train.shape, 2, 4, 0.3, bias=bias, seed=0, dtype=torch.float64)
        for _ in range(2)
    )
    given: Any = LBFGS(model.parameters()) if bound else LBFGS
    result = fit(model, train, given, FitOptions(steps=6))
    assert (result.engine, result.steps) == ("torch", 6)

    optimizer = LBFGS(twin.parameters())

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = twin.loss(train)
        loss.backward()
        return loss

    for _ in range(6):
        optimizer.step(closure)
    assert_close(list(model.parameters()), list(twin.parameters()), 1e-9)
    losses = result.history["train_loss"]
    assert losses[-1] < 0.5 * losses[0]


def test_an_optimizer_with_a_closure_resumes_bit_identically(tmp_path: Path) -> None:
    run("torch", 4, optimizer=LBFGS, checkpoint=tmp_path)
    resumed = run("torch", 9, optimizer=LBFGS, checkpoint=tmp_path, resume=True)
    assert_same(resumed, run("torch", 9, optimizer=LBFGS))


def by_hand(steps: int, rate: Callable[[int], float]) -> list[Tensor]:
    """Gradient descent with a learning rate for every step."""
    parameters = [factor.detach().clone().requires_grad_() for factor in problem().factors]
    for step in range(steps):
        loss = completion_loss(parameters, problem().observations())
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= rate(step) * gradient
    return [parameter.detach() for parameter in parameters]


@pytest.mark.parametrize("bound", [False, True])
def test_a_scheduler_makes_a_step_after_every_update(bound: bool) -> None:
    halved: Any = partial(torch.optim.lr_scheduler.StepLR, step_size=3, gamma=0.5)
    factors, optimizer = start(problem()), PLAIN["gradient descent"]
    if bound:
        optimizer = optimizer(factors)  # type: ignore[assignment]
        halved = halved(optimizer)
    run("auto", 10, factors=factors, optimizer=optimizer, scheduler=halved)
    assert_close(factors, by_hand(10, lambda step: 0.1 * 0.5 ** (step // 3)), 1e-12)


def test_a_scheduler_of_another_optimizer_is_refused() -> None:
    others = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(others, step_size=3)
    factors = start(problem())
    for optimizer in (PLAIN["Adam"], torch.optim.Adam(factors)):
        with pytest.raises(ValueError, match="`scheduler` must be a scheduler of `optimizer`"):
            run("auto", 3, factors=factors, optimizer=optimizer, scheduler=scheduler)


def test_bare_factors_have_the_gradients_that_their_optimizer_reads() -> None:
    factors = start(problem())
    seen = []

    class Looks(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            seen.append([parameter.grad is not None for parameter in factors])
            return super().step(closure)

    fit(factors, problem().observations(), Looks(factors, lr=0.1), FitOptions(steps=3))
    assert seen == [[True] * 3] * 3
    assert_close(factors, by_hand(3, lambda step: 0.1), 1e-12)


def test_a_small_problem_takes_one_thread_and_gives_the_others_back(threads: int) -> None:
    seen = []

    class Looks(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            seen.append(torch.get_num_threads())
            return super().step(closure)

    run("torch", 3, optimizer=partial(Looks, lr=0.1))
    assert seen == [1, 1, 1]
    assert torch.get_num_threads() == threads


def test_what_is_read_of_a_model_in_a_callback_is_the_state_of_the_row() -> None:
    train = make_problem((9, 8), density=0.5, seed=1).observations()
    model = DeepMatrixFactorization(train.shape, 2, 4, 0.3, bias=True, seed=0, dtype=torch.float64)
    seen = []

    def look(progress: Progress) -> None:
        seen.append((progress.model is model, progress.model.loss(train).item(), progress.row["train_loss"]))

    for engine in ("torch", "native"):
        options = FitOptions(steps=20, engine=engine)  # type: ignore[arg-type]
        fit(model, train, PLAIN["Adam"], options, recording=RECORDING, callbacks=[look])
    assert len(seen) == 6
    for is_the_model, loss, recorded in seen:
        assert is_the_model
        assert recorded == pytest.approx(loss, rel=1e-12)
