"""Weights in what a run minimizes, measures and stops at: numbers by hand."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

import pytest
import torch

from dmf_fast import Observations
from dmf_fast.training import FitResult, Recording
from tests import problems
from tests.training.runs import run

pytestmark = pytest.mark.usefixtures("bounded")

# The identity is 1 from the first entry and 3 from the second, which counts three times: (1 + 3·9) / 4 = 7.
PLACES, VALUES, WEIGHTS = ([0, 1], [0, 1]), [2.0, 4.0], [1.0, 3.0]
# Of the validation entries it is 2 off and 1, with 1 and 0.5: (4 + 0.5) / 1.5 = 3.
OTHER_PLACES, OTHER_VALUES, OTHER_WEIGHTS = ([0, 1], [1, 0]), [2.0, -1.0], [1.0, 0.5]
MEAN, VALIDATION = 7.0, math.sqrt(3)
GRADIENT = {"mean": math.hypot(2, 18) / 4, "sum": math.hypot(2, 18)}


def weighted(engine: str, steps: int, reduction: str, lr: float = 0.0, **options: Any) -> FitResult:
    make = partial(Observations, shape=(2, 2), dtype=torch.float64, device=problems.DEVICE)
    _, result = run(
        engine,
        steps,
        optimizer=partial(torch.optim.SGD, lr=lr),
        factors=[torch.eye(2, dtype=torch.float64, device=problems.DEVICE)],
        train=make(*PLACES, VALUES, weights=WEIGHTS),
        validation=make(*OTHER_PLACES, OTHER_VALUES, weights=OTHER_WEIGHTS),
        recording=Recording(every=1),
        reduction=reduction,
        **options,
    )
    return result


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_history_has_weighted_means_whatever_is_minimized(
    engine: str, reduction: Literal["mean", "sum"]
) -> None:
    (row,) = weighted(engine, 0, reduction).history.table.to_pylist()
    assert row["train_loss"] == pytest.approx(MEAN)
    assert row["validation_rmse"] == pytest.approx(VALIDATION)
    assert row["gradient_norm"] == pytest.approx(GRADIENT[reduction])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_thresholds_are_of_the_weighted_mean_and_reached_at_equality(engine: str, reduction: str) -> None:
    reached = weighted(engine, 1, reduction, train_loss_threshold=MEAN)
    assert (reached.stopped_because, reached.steps) == ("train_loss_threshold", 0)
    missed = weighted(engine, 1, reduction, train_loss_threshold=math.nextafter(MEAN, 0.0))
    assert (missed.stopped_because, missed.steps) == ("steps", 1)


@pytest.mark.parametrize(("reduction", "of_step"), [("mean", 4.0), ("sum", 1.0)])
def test_a_step_goes_down_the_weighted_loss(engine: str, reduction: str, of_step: float) -> None:
    lr = 0.1  # a residual r with the weight w becomes r (1 − 2 lr w), where the mean is minimized over 4
    first, second = (-1 * (1 - 2 * lr / of_step), -3 * (1 - 6 * lr / of_step))
    rows = weighted(engine, 1, reduction, lr).history.table.to_pylist()
    assert rows[1]["train_loss"] == pytest.approx((first**2 + 3 * second**2) / 4)
