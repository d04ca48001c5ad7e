"""Optimizers bound to parameters: native code continues from their state and leaves that of torch."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from dmf_fast._native import RuleKind
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.optim import AdaptiveGradientDescent, GroupRMSprop, OptimizerSpec
from dmf_fast.optim.native import NotNative, native_optimizer
from dmf_fast.training import FitOptions, fit
from tests.assertions import assert_close, assert_equal
from tests.problems import make_problem

RULES: dict[str, Any] = {
    "gradient descent": partial(torch.optim.SGD, lr=0.05),
    "momentum": partial(torch.optim.SGD, lr=0.02, momentum=0.9),
    "group RMSprop": partial(GroupRMSprop, lr=3e-3),
    "Adam": partial(torch.optim.Adam, lr=1e-3),
    "adaptive": partial(AdaptiveGradientDescent, lr=0.5),
}
TRAIN = make_problem((14, 9), density=0.5, weighted=True, seed=3).observations()


def new_model(bias: bool = True) -> DeepMatrixFactorization:
    return DeepMatrixFactorization((9, 14), 3, 5, 0.5, bias=bias, seed=0, dtype=torch.float64)


def parameters(model: DeepMatrixFactorization) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def trained(rule: Any, *pieces: tuple[str, int]) -> tuple[DeepMatrixFactorization, torch.optim.Optimizer]:
    """Train with one bound optimizer, so many steps by each engine."""
    model = new_model()
    optimizer = rule(model.parameters())
    for engine, steps in pieces:
        options = FitOptions(steps=steps, engine=engine)  # type: ignore[arg-type]
        result = fit(model, TRAIN, optimizer, options)
        assert (result.engine, result.steps) == (engine, steps)
    return model, optimizer


def flat(state: Any) -> dict[str, Any]:
    """The numbers of a state dict by their places."""
    if isinstance(state, dict):
        return {f"{key}.{place}": value for key, one in state.items() for place, value in flat(one).items()}
    return {"": state}


@pytest.mark.parametrize("steps", [0, 1, 30])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.usefixtures("descent_plan")
def test_the_state_after_a_native_run_is_that_after_a_run_of_torch(name: str, steps: int) -> None:
    states = [
        flat(trained(RULES[name], (engine, steps))[1].state_dict()["state"]) for engine in ("native", "torch")
    ]
    ours, torchs = states
    assert ours.keys() == torchs.keys()
    for place, mine in ours.items():
        theirs = torchs[place]
        assert type(mine) is type(theirs), place
        if isinstance(mine, Tensor):
            assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype), place
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
        else:
            assert mine == pytest.approx(theirs, rel=1e-9), place


@pytest.mark.parametrize("name", RULES)
@pytest.mark.usefixtures("descent_plan")
def test_a_run_begins_with_the_state_that_its_optimizer_has(name: str) -> None:
    whole, _ = trained(RULES[name], ("native", 40))
    in_pieces, _ = trained(RULES[name], ("native", 17), ("native", 23))
    for own, other in zip(parameters(in_pieces), parameters(whole), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)
    for pieces in ((("native", 17), ("torch", 23)), (("torch", 17), ("native", 23)), (("torch", 40),)):
        mixed, _ = trained(RULES[name], *pieces)
        assert_close(parameters(mixed), parameters(whole), 1e-9)


def test_an_optimizer_with_a_state_begins_every_resume_alike(tmp_path: Any) -> None:
    def run(steps: int, folder: Any) -> list[Tensor]:
        model, optimizer = trained(RULES["Adam"], ("torch", 5))
        resume = folder is not None
        fit(model, TRAIN, optimizer, FitOptions(steps=steps), checkpoint=folder, resume=resume)
        step = next(iter(optimizer.state.values()))["step"]
        assert float(step) == 5 + steps
        return parameters(model)

    run(13, tmp_path)
    assert_equal(run(40, tmp_path), run(40, None))


def test_state_of_some_parameters_only_is_left_to_torch() -> None:
    model = new_model()
    optimizer = RULES["Adam"](model.parameters())
    first = model.factors[0]
    first.grad = torch.ones_like(first)
    optimizer.step()
    result = fit(model, TRAIN, optimizer, FitOptions(steps=2))
    reason = "the optimizer has made steps with only some of the parameters"
    assert (result.engine, result.not_native_because) == ("torch", reason)


def test_a_run_leaves_the_groups_of_its_optimizer_alone() -> None:
    model = new_model()
    optimizer = RULES["Adam"](model.parameters())
    before = copy.deepcopy(optimizer.state_dict()["param_groups"])
    fit(model, TRAIN, optimizer, FitOptions(steps=3))
    assert optimizer.state_dict()["param_groups"] == before


def test_bare_factors_are_known_to_their_optimizer_by_the_tensors_given() -> None:
    factors = [parameter.detach().clone() for parameter in new_model(bias=False).factors]
    optimizer = RULES["momentum"](factors)
    assert fit(factors, TRAIN, optimizer, FitOptions(steps=3)).engine == "native"
    assert set(optimizer.state) == set(factors)


def read(spec: Any, **rest: Any) -> Any:
    model = new_model()
    return native_optimizer(OptimizerSpec.of(spec), list(model.factors), model.biases, **rest)


@pytest.mark.parametrize(
    ("name", "kind", "moments"),
    [
        ("gradient descent", RuleKind.gradient_descent, ()),
        ("momentum", RuleKind.gradient_descent, ("momentum_buffer",)),
        ("group RMSprop", RuleKind.group_rmsprop, ()),
        ("Adam", RuleKind.adam, ("exp_avg", "exp_avg_sq")),
        ("adaptive", RuleKind.adaptive_gradient_descent, ("gradient",)),
    ],
)
def test_a_rule_keeps_as_many_moments_as_it_needs(
    name: str, kind: RuleKind, moments: tuple[str, ...]
) -> None:
    native = read(RULES[name])
    assert (native.kind, native.moments, native.rule.moments) == (kind, moments, len(moments))


@pytest.mark.parametrize(
    ("rule", "option"),
    [
        (torch.optim.SGD, "lr"),
        (torch.optim.SGD, "weight_decay"),
        (GroupRMSprop, "lr"),
        (GroupRMSprop, "eps"),
        (torch.optim.Adam, "lr"),
        (torch.optim.Adam, "eps"),
    ],
)
@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf])
def test_an_option_that_is_negative_or_not_finite_is_named(rule: Any, option: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^`{option}` must be at least 0 and finite, got {value}$"):
        read(partial(rule, **({"lr": 0.1} | {option: value})))


@pytest.mark.parametrize(
    ("rule", "option", "name"),
    [
        (torch.optim.SGD, {"momentum": 1.0}, "momentum"),
        (GroupRMSprop, {"alpha": -0.1}, "alpha"),
        (torch.optim.Adam, {"betas": (2.0, 0.5)}, "beta1"),
        (torch.optim.Adam, {"betas": (0.5, math.nan)}, "beta2"),
    ],
)
def test_a_decay_outside_its_range_is_named(rule: Any, option: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^`{name}` must be at least 0 and below 1, got"):
        read(partial(rule, lr=0.1, **option))


@pytest.mark.parametrize("value", [None, "0.1", [0.1]])
@pytest.mark.parametrize(("rule", "option"), [(torch.optim.SGD, "lr"), (GroupRMSprop, "alpha")])
def test_an_option_that_is_no_number_is_named(rule: Any, option: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^`{option}` must be a number, got"):
        read(partial(rule, **({"lr": 0.1} | {option: value})))


@pytest.mark.parametrize("rule", [torch.optim.Adam, GroupRMSprop])
def test_an_eps_that_would_not_keep_zero_gradients_at_rest_is_torchs(rule: Any) -> None:
    with pytest.raises(NotNative, match="eps is below 1e-30"):
        read(partial(rule, lr=0.1, eps=0.0))


def test_the_least_values_are_allowed() -> None:
    for spec in (
        partial(torch.optim.SGD, lr=0.0, momentum=0.0),
        partial(GroupRMSprop, lr=0.0, alpha=0.0, eps=1e-30),
        partial(torch.optim.Adam, lr=0.0, betas=(0.0, 0.0), eps=1e-30),
    ):
        assert read(spec).rule.moments in (0, 2)
