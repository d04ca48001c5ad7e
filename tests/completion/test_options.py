"""Options of a job: what is refused, by name."""

from __future__ import annotations

from typing import Any

import pytest

from dmf_fast.completion import FAST, CompletionOptions
from dmf_fast.completion.folds import bias_tolerance
from dmf_fast.completion.options import PAPER


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"depth": 0}, "`depth` must be at least 1, got 0"),
        ({"optimizer": "sgdd"}, "`optimizer` must be one of lbfgs, .*, got 'sgdd'"),
        ({"schedule": "exp"}, "`schedule` must be one of constant, linear, cosine, got 'exp'"),
        ({"coordinates": "polar"}, "`coordinates` must be one of scaled, plain, got 'polar'"),
        ({"initialization": "zeros"}, "`initialization` must be one of spectral, gaussian, .*, got 'zeros'"),
        ({"degree_exponent": 1.5}, "`degree_exponent` must be at most 1, got 1.5"),
        ({"weight_decay": -1.0}, "`weight_decay` must be at least 0, got -1.0"),
        ({"depth": "deep"}, "`depth` must be a whole number or one of auto, got 'deep'"),
        ({"init_scale": 0.1}, "`init_scale` must be None for the spectral initialization .*, got 0.1"),
        ({"optimizer": "adam"}, "`lr` must be given for the optimizer 'adam', got None"),
    ],
)
def test_options_out_of_range_are_refused_by_name(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        CompletionOptions(**wrong)


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_a_validation_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="`validation_fraction` must be"):
        CompletionOptions(validation_fraction=fraction)


def test_the_defaults_are_those_that_the_constants_of_the_theory_were_set_with() -> None:
    expected = {
        "depth": "auto",
        "hidden": 64,
        "init_scale": None,
        "initialization": None,
        "bias": True,
        "center": True,
        "coordinates": "scaled",
        "degree_exponent": 0.4,
        "optimizer": "adaptive-gd",
        "lr": None,
        "weight_decay": 0.13,
        "bias_weight_decay": None,
        "schedule": "constant",
        "warmup": 0,
        "validation_fraction": 0.05,
        "refit": True,
        "seed": 0,
        "device": "auto",
        "steps": 5_000,
        "patience": 20,
        "patience_after": 0,
        "reduction": "mean",
        "train_loss_threshold": None,
        "gradient_norm_threshold": None,
        "gradient_clip": None,
        "batches": 1,
        "engine": "auto",
        "evaluate_every": 1,
        "singular_values": 0,
        "norms": False,
    }
    found = CompletionOptions().values()
    assert {name: found[name] for name in expected} == expected
    assert {name: FAST.values()[name] for name in ("depth", "hidden", "optimizer")} == {
        "depth": 2,
        "hidden": 48,
        "optimizer": "lbfgs",
    }
    assert {name for name, value in FAST.values().items() if value != found[name]} == {
        "depth",
        "hidden",
        "optimizer",
    }


def test_the_setting_of_the_paper_is_gradient_descent_on_factors_alone() -> None:
    expected = {
        "depth": 3,
        "hidden": 100,
        "init_scale": 1e-3,
        "bias": False,
        "center": False,
        "coordinates": "plain",
        "optimizer": "group-rmsprop",
        "lr": 3e-3,
        "weight_decay": 0.0,
        "validation_fraction": 0.0,
        "refit": False,
        "steps": 40_000,
        "train_loss_threshold": 1e-6,
        "evaluate_every": 100,
        "singular_values": 10,
        "norms": False,
    }
    assert {name: PAPER.values()[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("taken", "refused"),
    [
        ({"depth": 1}, {"depth": 0}),
        ({"hidden": 1}, {"hidden": 0}),
        (
            {"init_scale": 1e-9, "initialization": "gaussian"},
            {"init_scale": 0.0, "initialization": "gaussian"},
        ),
        ({"degree_exponent": 0.0}, {"degree_exponent": -1e-9}),
        ({"degree_exponent": 1.0}, {"degree_exponent": 1.001}),
        ({"lr": 1e-9}, {"lr": 0.0}),
        ({"weight_decay": 0.0}, {"weight_decay": -1e-9}),
        ({"bias_weight_decay": 0.0}, {"bias_weight_decay": -1e-9}),
        ({"warmup": 0}, {"warmup": -1}),
        ({"validation_fraction": 0.0}, {"validation_fraction": -1e-9}),
        ({"validation_fraction": 0.999}, {"validation_fraction": 1.0}),
        ({"seed": 0}, {"seed": -1}),
    ],
)
def test_an_option_is_taken_up_to_its_bounds(taken: dict[str, Any], refused: dict[str, Any]) -> None:
    name = next(iter(taken))
    assert getattr(CompletionOptions(**taken), name) == taken[name]
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        CompletionOptions(**refused)


def test_biases_are_fitted_roughly_where_lbfgs_learns_them_further() -> None:
    assert bias_tolerance(CompletionOptions()) == 1e-6
    assert bias_tolerance(FAST) == 1e-3
