"""Optimizers before they are bound: what they are made from, and how they are written down."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from dmf_fast.optim import GroupRMSprop, OptimizerSpec

FACTORS = [torch.eye(2, requires_grad=True), torch.ones(3, 2, requires_grad=True)]
BIASES = [torch.zeros(3, requires_grad=True), torch.zeros(2, requires_grad=True)]


def test_an_optimizer_describes_itself_by_its_name_and_all_its_numbers() -> None:
    adam = partial(torch.optim.Adam, lr=1, betas=(0.5, 0.75), eps=0.125, weight_decay=2)
    described = OptimizerSpec.of(adam).describe()
    expected = {"lr": 1.0, "betas_1": 0.5, "betas_2": 0.75, "eps": 0.125, "weight_decay": 2.0}
    assert described == {"optimizer": "Adam"} | expected
    given = OptimizerSpec(GroupRMSprop, {"lr": 1}, {"weight_decay": 3})
    assert given.describe() == {
        "optimizer": "GroupRMSprop",
        "lr": 1.0,
        "alpha": 0.99,
        "eps": 1e-6,
        "weight_decay": 0.0,
        "bias_weight_decay": 3.0,
    }


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (torch.optim.SGD, "SGD"),
        (partial(torch.optim.SGD, lr=0.5), "SGD"),
        (lambda parameters: None, "<lambda>"),
    ],
)
def test_a_class_a_partial_and_a_function_have_the_name_of_what_makes_them(given: Any, name: str) -> None:
    spec = OptimizerSpec.of(given)
    assert spec.name == name
    assert OptimizerSpec.of(spec) is spec


def test_biases_are_a_group_of_their_own_where_their_options_differ() -> None:
    together = OptimizerSpec(torch.optim.SGD, {"lr": 0.5}).make(FACTORS, BIASES)
    assert [len(group["params"]) for group in together.param_groups] == [4]
    apart = OptimizerSpec(torch.optim.SGD, {"lr": 0.5}, {"weight_decay": 0.1}).make(
        iter(FACTORS), iter(BIASES)
    )
    assert [group["weight_decay"] for group in apart.param_groups] == [0, 0.1]
    assert [len(group["params"]) for group in apart.param_groups] == [2, 2]
    without = OptimizerSpec(torch.optim.SGD, {"lr": 0.5}, {"weight_decay": 0.1}).make(FACTORS)
    assert [len(group["params"]) for group in without.param_groups] == [2]
