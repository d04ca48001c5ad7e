"""Update rules by name: the class, the options that the name stands for, and separate decays."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dmf_fast.completion.optimizers import OPTIMIZERS, optimizer_spec
from dmf_fast.completion.options import CompletionOptions
from dmf_fast.optim import AdaptiveGradientDescent, GroupRMSprop, PreconditionedLBFGS

EXPECTED: dict[str, tuple[type, dict[str, Any]]] = {
    "lbfgs": (PreconditionedLBFGS, {}),
    "adaptive-gd": (AdaptiveGradientDescent, {}),
    "sgd": (torch.optim.SGD, {"momentum": 0, "nesterov": False}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9, "nesterov": False}),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "group-rmsprop": (GroupRMSprop, {}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
    "nadam": (torch.optim.NAdam, {}),
    "radam": (torch.optim.RAdam, {}),
    "adagrad": (torch.optim.Adagrad, {}),
    "adamax": (torch.optim.Adamax, {}),
}


def test_every_name_has_its_rule() -> None:
    assert set(EXPECTED) == set(OPTIMIZERS)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_name_stands_for_a_rule_and_its_options(name: str) -> None:
    rule, options = EXPECTED[name]
    spec = optimizer_spec(name, 0.25, 0.5, 0.125)
    assert spec.optimizer is rule
    found = spec.all_options()
    expected = {"lr": 0.25, "weight_decay": 0.5} | options
    assert {option: found[option] for option in expected} == expected
    assert spec.bias_options == {"weight_decay": 0.125}
    plain = optimizer_spec(name, 0.25)
    assert plain.bias_options == {}
    assert plain.all_options()["weight_decay"] == 0.0


@pytest.mark.parametrize(
    ("changes", "begins_fast", "finds_steps", "start", "small_scale"),
    [
        ({}, False, True, "spectral", 2e-5),
        ({"optimizer": "lbfgs"}, True, True, "spectral", 2e-5),
        ({"optimizer": "lbfgs", "depth": 1}, False, True, "spectral", 2e-5),
        ({"optimizer": "lbfgs", "depth": 2}, True, True, "spectral", 2e-5),
        ({"optimizer": "lbfgs", "weight_decay": 0.0}, False, True, "spectral", 2e-5),
        (
            {"optimizer": "lbfgs", "initialization": "balanced", "init_scale": 0.5},
            False,
            True,
            "balanced",
            0.5,
        ),
        ({"optimizer": "sgd", "lr": 0.1, "coordinates": "plain"}, False, False, "gaussian", 2e-5),
        ({"optimizer": "group-rmsprop"}, False, False, "spectral", 2e-5),
    ],
)
def test_what_options_say_about_a_job(
    changes: dict[str, Any], begins_fast: bool, finds_steps: bool, start: str, small_scale: float
) -> None:
    options = CompletionOptions().changed(changes)
    assert (options.begins_fast, options.finds_steps) == (begins_fast, finds_steps)
    assert (options.start, options.small_scale) == (start, small_scale)


@pytest.mark.parametrize("optimizer", sorted({*EXPECTED} - {"lbfgs", "adaptive-gd", "group-rmsprop"}))
def test_a_rule_without_a_rate_of_its_own_must_be_given_one(optimizer: Any) -> None:
    with pytest.raises(ValueError, match=f"`lr` must be given for the optimizer '{optimizer}'"):
        CompletionOptions(optimizer=optimizer)
    with pytest.raises(ValueError, match="`lr` must be given"):
        CompletionOptions(optimizer="group-rmsprop", coordinates="plain")
