"""The name of a trial in a folder: whatever decides its result is in it, and nothing else."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from dmf_fast import Observations
from dmf_fast.training import FitOptions, Recording, Trial, fit_many

OTHERS = Observations([1, 2], [0, 1], [1.0, 2.0], (3, 3), weights=[1.0, 2.0])


def entries(weights: list[float] | None = None, last: float = 3.0, place: int = 2) -> Observations:
    return Observations([0, 1, 2], [0, 1, place], [1.0, 2.0, last], (3, 3), weights=weights)


PLAIN = Trial(
    {"seed": 0},
    [torch.eye(3)],
    entries(),
    partial(torch.optim.SGD, lr=0.1),
    FitOptions(steps=20, patience=5),
    Recording(every=5),
    validation=OTHERS,
)
CHANGED_OPTIONS: dict[str, Any] = {
    "steps": 21,
    "reduction": "sum",
    "train_loss_threshold": 1e-3,
    "gradient_norm_threshold": 1e-3,
    "patience": 6,
    "patience_after": 10,
    "gradient_clip": 1.0,
    "seed": 1,
    "checkpoint_every": 7,
    "max_seconds": 60.0,
    "batches": 2,
    "engine": "torch",
}
CHANGED: dict[str, dict[str, Any]] = {
    "labels": {"labels": {"seed": 1}},
    "the start": {"factors": [2 * torch.eye(3)]},
    "the depth": {"factors": [torch.eye(3), torch.eye(3)]},
    "the dtype": {"factors": [torch.eye(3).double()], "train": entries().to(dtype=torch.float64)},
    "a value": {"train": entries(last=3.5)},
    "a place": {"train": entries(place=1)},
    "weights": {"train": entries(weights=[1.0, 1.0, 2.0])},
    "weights of the validation entries": {"validation": OTHERS.with_values(OTHERS.values, [2.0, 1.0])},
    "no validation entries": {"validation": None},
    "test entries": {"test": OTHERS},
    "the truth": {"truth": torch.eye(3)},
    "the learning rate": {"optimizer": partial(torch.optim.SGD, lr=0.2)},
    "another option of the rule": {"optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.5)},
    "the rule": {"optimizer": partial(torch.optim.Adam, lr=0.1)},
    "when a row is recorded": {"recording": Recording(every=6)},
    "what a row holds": {"recording": Recording(every=5, norms=False)},
} | {
    f"option {name}": {"options": replace(PLAIN.options, **{name: value})}
    for name, value in CHANGED_OPTIONS.items()
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_trial_with_anything_else_is_another(what: str) -> None:
    assert replace(PLAIN, **CHANGED[what]).key() != PLAIN.key()


def test_every_option_but_the_bar_is_in_the_key() -> None:
    assert {field.name for field in fields(FitOptions)} == {*CHANGED_OPTIONS, "progress"}
    assert replace(PLAIN, options=replace(PLAIN.options, progress=True)).key() == PLAIN.key()


@pytest.mark.parametrize(
    ("changes", "steps", "reason"),
    [({"steps": 30}, 30, "steps"), ({"train_loss_threshold": 1e9}, 0, "train_loss_threshold")],
)
def test_a_trial_that_is_to_end_elsewhere_runs_again(
    tmp_path: Path, changes: dict[str, Any], steps: int, reason: str
) -> None:
    before = fit_many([PLAIN], folder=tmp_path, progress=False).results[0].result
    other = replace(PLAIN, options=replace(PLAIN.options, patience=None, **changes))

    again = fit_many([other], folder=tmp_path, progress=False).results[0].result

    assert (again.steps, again.stopped_because) == (steps, reason) != (before.steps, before.stopped_because)
    assert fit_many([PLAIN], folder=tmp_path, progress=False).results[0].result == before
