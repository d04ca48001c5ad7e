"""What `fit` refuses, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor

from dmf_fast import Observations, optim
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.training import FitOptions, Recording, explain, fit
from tests.assertions import assert_equal
from tests.problems import make_problem
from tests.training.runs import PLAIN, start

PROBLEM = make_problem((9, 6, 8), density=0.6, seed=1)
TRAIN = PROBLEM.observations()
OTHER = make_problem((9, 8), density=0.4, seed=2).observations()
SGD = PLAIN["gradient descent"]


def frozen() -> DeepMatrixFactorization:
    model = DeepMatrixFactorization((8, 9), 2, dtype=torch.float64)
    model.requires_grad_(False)
    return model


# Observations on another device, which there need not be here.
ELSEWHERE = Mock(spec=Observations, shape=TRAIN.shape, total_weight=1.0, device=torch.device("cuda:1"))
WEIGHTLESS = TRAIN.with_values(TRAIN.values, torch.zeros(len(TRAIN)))
EMPTY = Observations([], [], [], TRAIN.shape, dtype=torch.float64)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"model": []}, ValueError, "`factors` must hold at least one matrix"),
        (
            {"model": torch.eye(3)},
            TypeError,
            "`model` must be .* or a list of factors .* got Tensor",
        ),
        ({"model": "deep"}, TypeError, "`model` must be .* or a list of factors .* got str"),
        ({"model": [np.eye(3)]}, TypeError, r"`factors\[0\]` must be a torch.Tensor, got ndarray"),
        (
            {"model": [torch.ones(6, 9), torch.ones(8, 5)]},
            ValueError,
            r"`factors\[1\]` must have as many columns as `factors\[0\]`",
        ),
        ({"model": [torch.ones(9)]}, ValueError, r"`factors\[0\]` must be a matrix"),
        (
            {"model": [torch.ones(8, 9).double()] * 2},
            ValueError,
            r"`factors\[1\]` must have as many columns as `factors\[0\]`",
        ),
        ({"model": [torch.ones(9, 8).double()]}, ValueError, r"`train` must .*, \(9, 8\), got \(8, 9\)"),
        (
            {"model": [torch.ones(8, 9)]},
            TypeError,
            r"`factors\[0\]` must .*64, got torch.float32",
        ),
        ({"model": [torch.ones(8, 9).bfloat16()]}, TypeError, "got torch.bfloat16"),
        ({"model": [torch.ones(8, 9, device="meta").double()]}, ValueError, r"`factors\[0\]` .* got meta"),
        (
            {"model": [torch.ones(1, 9).double().expand(8, 9)]},
            ValueError,
            r"elements of `factors\[0\]` must not share memory",
        ),
        (
            {"model": DeepMatrixFactorization((8, 9), 2)},
            TypeError,
            r"`model.factors\[0\]` must have",
        ),
        ({"model": frozen()}, ValueError, "`model` must have a parameter that requires a gradient, got none"),
        ({"train": torch.eye(3)}, TypeError, "`train` must be dmf_fast.Observations, got Tensor"),
        ({"train": EMPTY}, ValueError, "`train` must hold an entry"),
        (
            {"train": TRAIN.with_values(TRAIN.values, torch.zeros(len(TRAIN)))},
            ValueError,
            "`train` must hold",
        ),
        ({"validation": EMPTY}, ValueError, "`validation` must hold an entry"),
        ({"validation": OTHER.transpose()}, ValueError, r"`validation` must have .*, \(8, 9\), got \(9, 8\)"),
        ({"validation": "all"}, TypeError, "`validation` must be dmf_fast.Observations, got str"),
        (
            {"validation": ELSEWHERE},
            ValueError,
            r"`validation` .* got cuda:1; use validation.to\('cpu'\)",
        ),
        ({"test": OTHER.transpose()}, ValueError, r"`test` must have the shape .*, \(8, 9\), got \(9, 8\)"),
        ({"test": torch.eye(3)}, TypeError, "`test` must be dmf_fast.Observations, got Tensor"),
        (
            {"test": ELSEWHERE},
            ValueError,
            "`test` must be on the device .*, cpu, got cuda:1",
        ),
        ({"truth": torch.ones(9, 8)}, ValueError, r"`truth` must have the shape .*, \(8, 9\), got \(9, 8\)"),
        (
            {"truth": np.ones((8, 9))},
            TypeError,
            r"`truth` must be a tensor, got ndarray; use torch",
        ),
        ({"truth": torch.ones(8, 9).bool()}, TypeError, "`truth` must hold real numbers, got torch.bool"),
        ({"truth": torch.ones(8, 9).cfloat()}, TypeError, "got torch.complex64"),
        ({"options": Recording()}, TypeError, "`options` must be dmf_fast.FitOptions, got Recording"),
        ({"options": {"steps": 3}}, TypeError, "`options` must be dmf_fast.FitOptions, got dict"),
        ({"recording": FitOptions()}, TypeError, "`recording` must be dmf_fast.Recording, got FitOptions"),
        (
            {"options": FitOptions(patience=3)},
            ValueError,
            "`patience` must be None .* got 3; pass val",
        ),
        (
            {"callbacks": print},
            TypeError,
            "`callbacks` must be a list of functions, got <built-in",
        ),
        ({"callbacks": ["print"]}, TypeError, r"`callbacks` must be a list of functions, got \['print'\]"),
        ({"scheduler": "cosine"}, TypeError, "`scheduler` must be .*, or a function .*, got str"),
        ({"resume": True}, ValueError, "`checkpoint` must be a folder if `resume` is given, got None"),
        (
            {"options": FitOptions(checkpoint_every=3)},
            ValueError,
            "`checkpoint` must be a folder if `checkpoint_every` is given, got None",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        fit(**({"model": start(PROBLEM), "train": TRAIN, "optimizer": SGD} | change))


def of_other_parameters() -> torch.optim.Optimizer:
    return torch.optim.SGD(start(PROBLEM), lr=0.1)


@pytest.mark.parametrize(
    ("optimizer", "error", "words"),
    [
        ("adam", TypeError, r"`optimizer` must be a torch optimizer or a callable .*partial.*, got str"),
        (None, TypeError, "`optimizer` must be a torch optimizer or a callable .*, got NoneType"),
        (FitOptions(), TypeError, "`optimizer` must be a torch optimizer or a callable .*, got FitOptions"),
        (optim.GroupRMSprop, TypeError, "GroupRMSprop does not accept the options {}: missing .* 'lr'"),
        (partial(torch.optim.SGD, rate=0.1), TypeError, "SGD does not accept the options {'rate': 0.1}"),
        (partial(torch.optim.SGD, [1]), TypeError, r"must have its options as keywords, got .*\(\[1\],\)"),
        (partial(torch.optim.SGD, lr=-1.0), ValueError, "`lr` must be at least 0 and finite, got -1.0"),
        (partial(torch.optim.SGD, lr="fast"), TypeError, "`lr` must be a number, got 'fast'"),
        (lambda parameters: None, TypeError, "must make a torch optimizer, got <lambda>, .* NoneType"),
        (
            of_other_parameters(),
            ValueError,
            "`optimizer` must hold parameters of the model, got one of",
        ),
    ],
)
def test_what_is_no_optimizer_of_the_model_is_named(
    optimizer: Any, error: type[Exception], words: str
) -> None:
    model = DeepMatrixFactorization((8, 9), 2, seed=0, dtype=torch.float64)
    for given in (start(PROBLEM), model):
        with pytest.raises(error, match=words):
            fit(given, TRAIN, optimizer, FitOptions(steps=1))


def test_a_class_whose_defaults_suffice_is_an_optimizer() -> None:
    model = DeepMatrixFactorization((8, 9), 2, seed=0, dtype=torch.float64)
    for given in (start(PROBLEM), model):
        assert fit(given, TRAIN, torch.optim.SGD, FitOptions(steps=3)).engine == "native"


def test_explain_refuses_what_fit_refuses() -> None:
    with pytest.raises(TypeError, match="`optimizer` must be a torch optimizer"):
        explain(start(PROBLEM), TRAIN, "adam")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`model` must be .* got Tensor"):
        explain(torch.eye(3), TRAIN, SGD)


def test_a_factor_that_comes_twice_is_refused() -> None:
    square = torch.eye(3)
    train = Observations([0], [0], [1.0], (3, 3))
    for factors in ([square, square], [square, square.T], [square, square[:]]):
        with pytest.raises(ValueError, match="`factors` must not share memory"):
            fit(factors, train, SGD)


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
    with pytest.raises(
        ValueError, match=r"must not share memory, .* factors\[\d\] and factors\[\d\] that do"
    ):
        fit(factors, SQUARES, SGD)


@pytest.mark.parametrize("factor", [MEMORY.as_strided((3, 3), (1, 1)), MEMORY[:3].expand(3, 3)])
def test_a_factor_that_repeats_numbers_is_refused(factor: Tensor) -> None:
    with pytest.raises(ValueError, match=r"elements of `factors\[0\]` must not share memory"):
        fit([factor], SQUARES, SGD)


@pytest.mark.parametrize(
    "part",
    [
        lambda memory: [memory[:9].view(3, 3), memory[9:18].view(3, 3)],
        lambda memory: [memory.view(6, 6)[:3, :3], memory.view(6, 6)[:3, 3:]],
        lambda memory: [memory.view(6, 6)[::2, ::2], memory.view(6, 6)[1::2, 1::2]],
        lambda memory: list(memory[:27].view(3, 3, 3).unbind(0)),
    ],
)
def test_adjacent_parts_of_one_tensor_are_trained(
    part: Callable[[Tensor], list[Tensor]],
) -> None:
    factors = part(MEMORY.clone())
    copies = [factor.clone() for factor in factors]
    for given in (factors, copies):
        fit(given, SQUARES, SGD, FitOptions(steps=20))
    assert_equal(factors, copies)


def test_bad_arguments_leave_the_factors_alone() -> None:
    factors = start(PROBLEM)
    with pytest.raises(ValueError, match="`validation` must have the shape"):
        fit(factors, TRAIN, SGD, validation=OTHER.transpose())
    assert_equal(factors, PROBLEM.factors)
