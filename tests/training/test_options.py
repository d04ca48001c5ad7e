"""Options keep NumPy's numbers as plain ones, so that they can be written down; what is none is named."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from dmf_fast.training import FitOptions, Recording

PLAIN: list[Any] = [
    FitOptions(5, "sum", 0.5, 0.25, 3, 2.0, 9, None, 7, 2.0, 4, "torch"),
    Recording(every=3, singular_values=2),
    Recording(per_decade=3),
]


def as_numpy(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return np.int64(value)
    return np.float32(value) if isinstance(value, float) else value


@pytest.mark.parametrize("plain", PLAIN, ids=lambda plain: type(plain).__name__)
def test_numbers_of_numpy_are_kept_as_plain_ones(plain: Any) -> None:
    given = {name: as_numpy(value) for name, value in asdict(plain).items()}
    assert {np.int64, np.float32} & {type(value) for value in given.values()}
    same = replace(plain, **given)
    assert same == plain
    assert json.dumps(asdict(same)) == json.dumps(asdict(plain))


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("steps", -1, ValueError),
        ("steps", 1.5, TypeError),
        ("patience", 0, ValueError),
        ("patience", "3", TypeError),
        ("checkpoint_every", -1, ValueError),
        ("reduction", "none", ValueError),
        ("train_loss_threshold", -1.0, ValueError),
        ("train_loss_threshold", math.nan, ValueError),
        ("gradient_norm_threshold", -1e-9, ValueError),
        ("gradient_norm_threshold", math.inf, ValueError),
        ("gradient_clip", 0.0, ValueError),
        ("gradient_clip", "0.1", TypeError),
        ("max_seconds", math.inf, ValueError),
        ("seed", -3, ValueError),
        ("batches", 0, ValueError),
        ("engine", "gpu", ValueError),
    ],
)
def test_an_option_out_of_range_is_named(option: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"`{option}` must be .*, got {value!r}"):
        FitOptions(**{option: value})
