"""What descend refuses, before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dmf_fast import Observations
from dmf_fast.training import DescentOptions, descend
from tests.problems import make_problem
from tests.training.descents import RULES, assert_equal, start

PROBLEM = make_problem((9, 6, 8), density=0.6, seed=1)
TRAIN = PROBLEM.observations()
OTHER = make_problem((9, 8), density=0.4, seed=2).observations()
RULE = RULES["gradient descent"]


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("steps", -1, ValueError),
        ("steps", 1.5, TypeError),
        ("patience", 0, ValueError),
        ("patience", "3", TypeError),
        ("checkpoint_every", 0, ValueError),
        ("reduction", "none", ValueError),
        ("train_loss_threshold", -1.0, ValueError),
        ("train_loss_threshold", math.nan, ValueError),
        ("gradient_norm_threshold", -1e-9, ValueError),
        ("gradient_norm_threshold", math.inf, ValueError),
        ("max_seconds", math.inf, ValueError),
    ],
)
def test_an_option_out_of_range_is_named(option: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=option):
        DescentOptions(**{option: value})


# All of observations that is looked at before they are used; there need not be another device here.
ELSEWHERE = SimpleNamespace(shape=TRAIN.shape, total_weight=1.0, device=torch.device("cuda:1"))
EMPTY = Observations([], [], [], TRAIN.shape, dtype=torch.float64)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"factors": []}, ValueError, "factors must hold at least one matrix"),
        ({"factors": torch.eye(3)}, TypeError, "factors must be a sequence"),
        ({"factors": [torch.ones(6, 9), torch.ones(8, 5)]}, ValueError, r"factors\[1\] @ factors\[0\]"),
        ({"factors": [torch.ones(9)]}, ValueError, r"factors\[0\] must be a matrix"),
        ({"factors": [torch.ones(8, 9).double()] * 2}, ValueError, r"factors\[1\] @ factors\[0\]"),
        ({"factors": [torch.ones(9, 8).double()]}, ValueError, r"train has shape \(8, 9\), but .* \(9, 8\)"),
        ({"factors": [torch.ones(8, 9)]}, TypeError, r"factors\[0\] must be float32 or float64"),
        ({"factors": [torch.ones(8, 9).bfloat16()]}, TypeError, "torch.bfloat16 came"),
        ({"factors": [torch.ones(8, 9, device="meta").double()]}, ValueError, r"factors\[0\] is on meta"),
        ({"factors": [torch.ones(1, 9).double().expand(8, 9)]}, ValueError, r"factors\[0\] must have memory"),
        ({"train": EMPTY}, ValueError, "train must hold an entry"),
        (
            {"train": TRAIN.with_values(TRAIN.values, torch.zeros(len(TRAIN)))},
            ValueError,
            "train must hold an entry",
        ),
        ({"validation": EMPTY}, ValueError, "validation must hold an entry"),
        ({"validation": OTHER.transpose()}, ValueError, r"validation has shape \(9, 8\)"),
        ({"test": OTHER.transpose()}, ValueError, r"test has shape \(9, 8\)"),
        ({"truth": torch.ones(9, 8)}, ValueError, r"truth has shape \(9, 8\)"),
        ({"truth": np.ones((8, 9))}, TypeError, r"truth must be a tensor, .* use torch.as_tensor\(truth\)"),
        ({"truth": torch.ones(8, 9).bool()}, TypeError, "truth must hold real numbers, but torch.bool came"),
        ({"truth": torch.ones(8, 9).cfloat()}, TypeError, "but torch.complex64 came"),
        ({"options": DescentOptions(patience=3)}, ValueError, "patience must be None .* pass validation="),
        (
            {"validation": ELSEWHERE},
            ValueError,
            r"validation is on cuda:1, .* on cpu; use validation.to\('cpu'\)",
        ),
        ({"test": ELSEWHERE}, ValueError, r"test is on cuda:1, but the factors are on cpu; use test.to"),
        ({"resume": True}, ValueError, "resume needs a folder"),
        ({"options": DescentOptions(checkpoint_every=3)}, ValueError, "checkpoint_every needs a folder"),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        descend(**({"factors": start(PROBLEM), "train": TRAIN, "rule": RULE} | change))


def test_a_factor_that_comes_twice_is_refused() -> None:
    square = torch.eye(3)
    train = Observations([0], [0], [1.0], (3, 3))
    for factors in ([square, square], [square, square.T], [square, square[:]]):
        with pytest.raises(ValueError, match="factors must be different tensors"):
            descend(factors, train, RULE)


MEMORY = torch.linspace(0.1, 0.9, 36)
SQUARES = Observations([0, 1, 2], [0, 1, 2], [1.0, 2.0, 3.0], (3, 3))


@pytest.mark.parametrize(
    "factors",
    [
        [MEMORY[3:12].view(3, 3), MEMORY[:9].view(3, 3)],
        [MEMORY.view(6, 6)[:3, :3], MEMORY.view(6, 6)[2:5, 2:5]],
        [torch.from_numpy(MEMORY.numpy()[3:12]).view(3, 3), torch.from_numpy(MEMORY.numpy()[:9]).view(3, 3)],
        [torch.eye(3), MEMORY.view(6, 6)[:3, :3], MEMORY.view(6, 6)[:3, :3].T],
    ],
)
def test_factors_that_share_memory_are_refused(factors: list[Tensor]) -> None:
    with pytest.raises(ValueError, match=r"factors must be .* factors\[\d\] and factors\[\d\] share memory"):
        descend(factors, SQUARES, RULE)


@pytest.mark.parametrize("factor", [MEMORY.as_strided((3, 3), (1, 1)), MEMORY[:3].expand(3, 3)])
def test_a_factor_that_repeats_numbers_is_refused(factor: Tensor) -> None:
    with pytest.raises(ValueError, match=r"factors\[0\] must have memory of its own for every number"):
        descend([factor], SQUARES, RULE)


@pytest.mark.parametrize(
    "part",
    [
        lambda memory: [memory[:9].view(3, 3), memory[9:18].view(3, 3)],
        lambda memory: [memory.view(6, 6)[:3, :3], memory.view(6, 6)[:3, 3:]],
        lambda memory: [memory.view(6, 6)[::2, ::2], memory.view(6, 6)[1::2, 1::2]],
        lambda memory: list(memory[:27].view(3, 3, 3).unbind(0)),
    ],
)
def test_parts_of_one_tensor_that_lie_beside_each_other_are_trained(
    part: Callable[[Tensor], list[Tensor]],
) -> None:
    factors = part(MEMORY.clone())
    copies = [factor.clone() for factor in factors]
    for given in (factors, copies):
        descend(given, SQUARES, RULE, DescentOptions(steps=20))
    assert_equal(factors, copies)


def test_bad_arguments_leave_the_factors_alone() -> None:
    factors = start(PROBLEM)
    with pytest.raises(ValueError, match="validation has shape"):
        descend(factors, TRAIN, RULE, validation=OTHER.transpose())
    assert_equal(factors, PROBLEM.factors)
