"""Options keep NumPy's numbers as plain ones, so that they can be written down; what is none is named."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from dmf_fast.training import Adam, DescentOptions, FitOptions, GradientDescent, GroupRMSprop, Recording

PLAIN: list[Any] = [
    DescentOptions(5, "mean", 0.5, 0.25, 3, 2.0, 7),
    FitOptions(5, "sum", 0.5, 3, 4, 2, 0.5, 9, None, 7, 2.0),
    Recording(every=3, singular_values=2),
    Recording(per_decade=3),
    GradientDescent(0.5, 0.25, 0.125),
    GroupRMSprop(0.5, 0.25, 0.125, 0.5),
    Adam(0.5, 0.25, 0.125, 0.5, 0.25),
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
    ("kind", "name"), [(DescentOptions, "train_loss_threshold"), (FitOptions, "gradient_clip")]
)
def test_what_is_no_number_is_named(kind: Any, name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a number, but '0.1' came"):
        kind(**{name: "0.1"})
