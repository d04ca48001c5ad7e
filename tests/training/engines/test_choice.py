"""Which engine a run gets, and how it is reported."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

import dmf_fast
from dmf_fast.completion import ScaledFactorization
from dmf_fast.initialization import initialize
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.optim import AdaptiveGradientDescent, GroupRMSprop, OptimizerSpec
from dmf_fast.training import FitOptions, explain, fit
from tests.conftest import on_gpu
from tests.problems import make_problem
from tests.training.runs import start

PROBLEM = make_problem((9, 6, 8), density=0.6, seed=1)
TRAIN = PROBLEM.observations()
SGD = partial(torch.optim.SGD, lr=0.01)


def model(bias: bool = True, **options: Any) -> DeepMatrixFactorization:
    return DeepMatrixFactorization((8, 9), 2, 4, 0.3, bias=bias, seed=0, **{"dtype": torch.float64} | options)


def scaled(depth: int) -> ScaledFactorization:
    sides = torch.ones(8), torch.ones(9)
    factors = initialize("gaussian", (9, *[4] * (depth - 1), 8), 0.3, seed=0, dtype=torch.float64)
    return ScaledFactorization(factors, *sides, 1.0, None)


def frozen() -> DeepMatrixFactorization:
    given = model()
    given.factors[0].requires_grad_(False)
    return given


@pytest.mark.parametrize(
    "optimizer",
    [
        torch.optim.SGD,
        SGD,
        partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=0.1, foreach=False),
        partial(torch.optim.Adam, lr=0.01, betas=(0.5, 0.9), eps=1e-3),
        partial(GroupRMSprop, lr=0.01),
        AdaptiveGradientDescent,
        OptimizerSpec(torch.optim.SGD, {"lr": 0.01}, {"weight_decay": 0.5}),
    ],
)
@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("bare", [False, True])
def test_ordinary_torch_gets_native_steps(optimizer: Any, bound: bool, bare: bool) -> None:
    given: Any = start(PROBLEM) if bare else model()
    parameters = given if bare else list(given.parameters())
    factors = 2
    if bound:
        optimizer = OptimizerSpec.of(optimizer).make(parameters[:factors], parameters[factors:])
    assert explain(given, TRAIN, optimizer).engine == "native"
    result = fit(given, TRAIN, optimizer, FitOptions(steps=2))
    assert (result.engine, result.not_native_because) == ("native", None)


def bound_to_factors_only(given: DeepMatrixFactorization) -> torch.optim.Optimizer:
    return torch.optim.SGD(given.factors, lr=0.01)


def bound_with_two_rates(given: DeepMatrixFactorization) -> torch.optim.Optimizer:
    groups = [{"params": [given.factors[0]]}, {"params": [given.factors[1], *given.biases], "lr": 0.5}]
    return torch.optim.SGD(groups, lr=0.01)


def biases_of_another_rate(given: DeepMatrixFactorization) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [*given.factors]}, {"params": given.biases, "lr": 0.5}], lr=0.01)


def bound_with_a_rate_that_is_a_tensor(given: DeepMatrixFactorization) -> torch.optim.Optimizer:
    return torch.optim.Adam(given.parameters(), lr=torch.tensor(0.01))


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (torch.optim.AdamW, "AdamW has no native step"),
        (partial(torch.optim.SGD, lr=0.01, momentum=0.9, nesterov=True), "SGD with nesterov=True has no"),
        (partial(torch.optim.SGD, lr=0.01, momentum=0.9, dampening=0.5), "SGD with dampening=0.5 has no"),
        (partial(torch.optim.SGD, lr=0.01, maximize=True), "SGD with maximize=True has no"),
        (partial(torch.optim.Adam, amsgrad=True), "Adam with amsgrad=True has no"),
        (partial(torch.optim.Adam, eps=0.0), "eps is below 1e-30"),
        (lambda parameters: torch.optim.SGD(parameters, lr=0.01), "<lambda> has no native step"),
        (bound_to_factors_only, "does not hold exactly the parameters of the model"),
        (bound_with_two_rates, "options differ between factors"),
        (biases_of_another_rate, "lr differs between the factors and the biases"),
        (bound_with_a_rate_that_is_a_tensor, "lr is a tensor"),
    ],
)
def test_what_has_no_native_step_gets_torchs_and_is_told_so(optimizer: Any, reason: str) -> None:
    given = model()
    if getattr(optimizer, "__module__", "") == __name__ and "lambda" not in optimizer.__name__:
        optimizer = optimizer(given)
    assert explain(given, TRAIN, optimizer).engine.startswith("torch, since ")
    assert reason in explain(given, TRAIN, optimizer).engine
    result = fit(given, TRAIN, optimizer, FitOptions(steps=2))
    assert result.engine == "torch"
    assert reason in (result.not_native_because or "")
    for call in (fit, explain):
        with pytest.raises(ValueError, match="`engine` must support these steps, got 'native'"):
            call(given, TRAIN, optimizer, FitOptions(steps=2, engine="native"))


@pytest.mark.parametrize(
    ("given", "optimizer", "options", "reason"),
    [
        (model(), SGD, {"batches": 2}, "batches have no native step"),
        (frozen(), SGD, {}, "a parameter does not require a gradient"),
        (scaled(1), SGD, {}, "scaled coordinates of a single factor have no native step"),
        (scaled(2), torch.optim.Adam, {}, "Adam in scaled coordinates has no native step"),
    ],
)
def test_runs_that_have_no_native_step_get_torchs_and_are_told_so(
    given: Any, optimizer: Any, options: dict[str, Any], reason: str
) -> None:
    chosen = FitOptions(steps=2, **options)
    assert explain(given, TRAIN, optimizer, chosen).engine == f"torch, since {reason}"
    result = fit(given, TRAIN, optimizer, chosen)
    assert (result.engine, result.not_native_because) == ("torch", reason)


def test_a_dtype_without_native_steps_gets_torchs() -> None:
    given, train = model(dtype=torch.bfloat16), TRAIN.to(dtype=torch.bfloat16)
    result = fit(given, train, SGD, FitOptions(steps=2))
    assert (result.engine, result.not_native_because) == ("torch", "torch.bfloat16 has no native step")


class Doubled(DeepMatrixFactorization):
    """A model whose loss is its own."""

    def loss(self, *arguments: Any) -> torch.Tensor:
        return 2 * super().loss(*arguments)


def test_code_of_the_user_in_a_step_is_run_by_torchs_engine() -> None:
    own = Doubled((8, 9), 2, 4, 0.3, seed=0, dtype=torch.float64)
    hooked = model()
    halved = hooked.factors[0].register_hook(lambda gradient: gradient / 2)
    watched = model()
    optimizer = torch.optim.SGD(watched.parameters(), lr=0.01)
    optimizer.register_step_post_hook(lambda *arguments: None)
    for given, rule, reason in (
        (own, SGD, "Doubled computes its loss itself"),
        (hooked, SGD, "a parameter has a hook"),
        (watched, optimizer, "the optimizer has a hook"),
    ):
        assert fit(given, TRAIN, rule, FitOptions(steps=2)).not_native_because == reason
    halved.remove()
    assert fit(hooked, TRAIN, SGD, FitOptions(steps=2)).engine == "native"


def test_a_scheduler_gets_torchs_engine() -> None:
    schedule = partial(torch.optim.lr_scheduler.StepLR, step_size=1)
    result = fit(model(), TRAIN, SGD, FitOptions(steps=2), scheduler=schedule)
    assert (result.engine, result.not_native_because) == ("torch", "a scheduler changes the learning rate")


def test_a_named_engine_is_used_and_reported() -> None:
    result = fit(model(), TRAIN, SGD, FitOptions(steps=2, engine="torch"))
    assert (result.engine, result.not_native_because) == ("torch", "torch was requested")
    factors = start(PROBLEM)
    result = fit(factors, TRAIN, SGD, FitOptions(steps=2, engine="cuda_graph"))
    assert (result.engine, result.not_native_because) == ("cuda_graph", None)


@pytest.mark.parametrize(
    ("engine", "given", "optimizer", "options", "reason"),
    [
        ("native", model(), SGD, {"batches": 2}, "batches have no native step"),
        (
            "cuda_graph",
            model(),
            SGD,
            {},
            "biases, a mean and scaled coordinates have no native step",
        ),
        ("cuda_graph", scaled(2), SGD, {}, "biases, a mean and scaled coordinates have no native step"),
        ("cuda_graph", model(False), SGD, {"gradient_clip": 1.0}, "clipped gradients have no native step"),
        (
            "cuda_graph",
            model(False),
            AdaptiveGradientDescent,
            {},
            "AdaptiveGradientDescent has no native step on a GPU",
        ),
        ("cuda_block", model(False), SGD, {}, "the observations are on cpu"),
    ],
)
def test_an_engine_that_cannot_make_the_steps_says_why(
    engine: Any, given: Any, optimizer: Any, options: dict[str, Any], reason: str
) -> None:
    words = f"`engine` must support these steps, got '{engine}': {reason}"
    for call in (fit, explain):
        with pytest.raises(ValueError, match=words):
            call(given, TRAIN, optimizer, FitOptions(steps=2, engine=engine, **options))


def test_the_plan_says_the_engine() -> None:
    assert "native" in str(dmf_fast.explain(model(), TRAIN, SGD))
    assert (
        explain(model(), TRAIN, SGD, FitOptions(engine="torch")).engine == "torch, since torch was requested"
    )


@on_gpu
def test_a_problem_too_large_for_a_block_gets_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.problems.DEVICE", "cuda")
    large = make_problem((700, 600, 500), density=0.05, seed=0)
    assert fit(start(large), large.observations(), SGD, FitOptions(steps=40)).engine == "cuda_graph"
    small = make_problem((9, 6, 8), seed=0)
    assert fit(start(small), small.observations(), SGD, FitOptions(steps=40)).engine == "cuda_block"
