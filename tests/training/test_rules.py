"""The rules of `descend`: what they refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from dmf_fast import Observations
from dmf_fast._native import Outcome
from dmf_fast.training import Adam, GradientDescent, GroupRMSprop, Rule
from dmf_fast.training.cpu_engine import CpuEngine
from dmf_fast.training.operator_engine import OperatorEngine
from dmf_fast.training.rules import describe_rule

NOT_NEGATIVE = "must be a finite number of at least 0, but"
DECAY = "must be from 0 to below 1, but"


@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf])
@pytest.mark.parametrize(
    ("rule", "option"),
    [
        (GradientDescent, "lr"),
        (GradientDescent, "weight_decay"),
        (GroupRMSprop, "lr"),
        (GroupRMSprop, "eps"),
        (GroupRMSprop, "weight_decay"),
        (Adam, "lr"),
        (Adam, "eps"),
        (Adam, "weight_decay"),
    ],
)
def test_an_option_that_is_negative_or_not_finite_is_named(
    rule: type[Rule], option: str, value: float
) -> None:
    with pytest.raises(ValueError, match=f"^{option} {NOT_NEGATIVE} {value} came.$"):
        rule(**{"lr": 0.1, option: value})


@pytest.mark.parametrize("value", [-0.1, 1.0, 2.0, math.nan])
@pytest.mark.parametrize(
    ("rule", "option"),
    [(GradientDescent, "momentum"), (GroupRMSprop, "alpha"), (Adam, "beta1"), (Adam, "beta2")],
)
def test_a_decay_outside_its_range_is_named(rule: type[Rule], option: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{option} {DECAY} {value} came.$"):
        rule(**{"lr": 0.1, option: value})


@pytest.mark.parametrize("value", [None, "0.1", [0.1]])
@pytest.mark.parametrize(
    ("rule", "option"),
    [
        (GradientDescent, "lr"),
        (GradientDescent, "momentum"),
        (GroupRMSprop, "alpha"),
        (GroupRMSprop, "eps"),
        (Adam, "beta2"),
        (Adam, "weight_decay"),
    ],
)
def test_an_option_that_is_no_number_is_named(rule: type[Rule], option: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{option} must be a number, but "):
        rule(**{"lr": 0.1, option: value})


@pytest.mark.parametrize("rule", [Adam, GroupRMSprop])
def test_an_eps_must_keep_zero_gradients_at_rest(rule: type[Rule]) -> None:
    with pytest.raises(ValueError, match=r"eps must be at least 1e-30, but 0.0 came"):
        rule(lr=0.1, eps=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", [Adam(lr=0.1, eps=1e-30), GroupRMSprop(lr=0.1, eps=1e-30)])
@pytest.mark.parametrize("engine", [CpuEngine, OperatorEngine])
def test_a_zero_gradient_moves_nothing_with_the_least_eps(
    engine: type[CpuEngine | OperatorEngine], rule: Rule, dtype: torch.dtype
) -> None:
    exact = [torch.eye(2, dtype=dtype)]
    run = engine(exact, Observations([0, 1], [0, 1], [1.0, 1.0], dtype=dtype), rule)
    assert run.run(5, most_seconds=60.0) == Outcome.reached
    assert run.gradient_norm == 0
    assert torch.equal(run.factors()[0], exact[0])


@pytest.mark.parametrize(
    "rule",
    [
        GradientDescent(lr=0, momentum=0, weight_decay=0),
        GroupRMSprop(lr=0, alpha=0, eps=1e-30),
        Adam(lr=0, beta1=0, beta2=0, eps=1e-30),
    ],
)
def test_the_least_values_are_allowed(rule: Rule) -> None:
    assert describe_rule(rule)["lr"] == 0


def test_a_rule_describes_itself_by_its_name_and_all_its_options() -> None:
    assert describe_rule(Adam(lr=1, beta1=0.5, beta2=0.75, eps=0.125, weight_decay=2)) == {
        "rule": "Adam",
        "lr": 1.0,
        "beta1": 0.5,
        "beta2": 0.75,
        "eps": 0.125,
        "weight_decay": 2.0,
    }
    assert describe_rule(GroupRMSprop(lr=1, alpha=0.5, eps=0.125, weight_decay=2)) == {
        "rule": "GroupRMSprop",
        "lr": 1.0,
        "alpha": 0.5,
        "eps": 0.125,
        "weight_decay": 2.0,
    }


@pytest.mark.parametrize(
    ("rule", "moments"),
    [
        (GradientDescent(lr=1), 0),
        (GradientDescent(lr=1, momentum=0.5), 1),
        (GroupRMSprop(lr=1), 0),
        (Adam(lr=1), 2),
    ],
)
def test_a_rule_keeps_as_many_moments_as_it_needs(rule: Rule, moments: int) -> None:
    assert rule.native().moments == moments
