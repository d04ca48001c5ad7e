"""Options of a job: what is refused, by name."""

from __future__ import annotations

from typing import Any

import pytest

from dmf_fast.completion import CompletionOptions


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
        ({"init_scale": 0.1}, "`init_scale` must be None for the spectral initialization, .*, got 0.1"),
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
