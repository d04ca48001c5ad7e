"""What descend records: every row measures the state of its step, as computed again independently."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dmf_fast import Observations, reference
from dmf_fast.training import (
    DescentOptions,
    DescentProgress,
    DescentResult,
    GradientDescent,
    Recording,
    descend,
)
from tests.problems import Problem, make_problem
from tests.training.descents import RULES, assert_close, assert_equal, plain_descent, start

PROBLEM = make_problem((9, 4, 6, 8), density=0.5, weighted=True, seed=1)
EVERYTHING = Recording(singular_values=None, spectrum=True, balancedness=True)


def other_observations(seed: int) -> Observations:
    return make_problem((9, 8), density=0.4, weighted=True, seed=seed).observations()


def recorded(
    problem: Problem = PROBLEM, *, steps: int = 100, **arguments: Any
) -> tuple[DescentResult, dict[int, list[Tensor]]]:
    """Run with momentum and return, besides the result, the factors that every callback saw."""
    states: dict[int, list[Tensor]] = {}

    def keep(progress: DescentProgress) -> None:
        states[progress.step] = progress.factors

    options = DescentOptions(steps=steps)
    factors, train = start(problem), problem.observations()
    return descend(factors, train, RULES["momentum"], options, callbacks=[keep], **arguments), states


def measured(
    factors: list[Tensor], validation: Observations, test: Observations, truth: Tensor
) -> dict[str, Any]:
    """Every column but step and seconds, by NumPy and autograd."""
    leaves = [factor.clone().requires_grad_() for factor in factors]
    train = PROBLEM.observations()
    loss = reference.completion_loss(leaves, train.rows, train.columns, train.values, train.weights)
    gradients = torch.autograd.grad(loss, leaves)
    arrays = [factor.numpy() for factor in factors]
    product = arrays[2] @ arrays[1] @ arrays[0]
    values = np.linalg.svd(product, compute_uv=False)
    shares = values[:4] / values[:4].sum()  # beyond the narrowest width they are zero
    gaps = [np.linalg.norm(outer.T @ outer - inner @ inner.T) for inner, outer in pairwise(arrays)]

    def rmse(observations: Observations) -> float:
        errors = (
            product[observations.rows.numpy(), observations.columns.numpy()] - observations.values.numpy()
        )
        return math.sqrt(np.average(errors**2, weights=observations.weights.numpy()))

    return {
        "train_loss": loss.item(),
        "validation_rmse": rmse(validation),
        "test_rmse": rmse(test),
        "reconstruction_mse": ((product - truth.numpy()) ** 2).mean(),
        "gradient_norm": math.sqrt(sum(gradient.square().sum().item() for gradient in gradients)),
        "parameter_norm": math.sqrt(sum((array**2).sum() for array in arrays)),
        "effective_rank": math.exp(-(shares * np.log(shares)).sum()),
        "nuclear_norm": values.sum(),
        "schatten_norm": (values[:4] ** (2 / 3)).sum() ** (3 / 2),
        "balancedness": max(gaps),
    } | {f"singular_value_{place}": value for place, value in enumerate(values, start=1)}


@pytest.mark.usefixtures("instruction_set", "descent_plan")
def test_every_row_measures_the_state_of_its_step() -> None:
    validation, test = other_observations(2), other_observations(3)
    truth = torch.from_numpy(np.random.default_rng(4).standard_normal((8, 9)))
    result, states = recorded(recording=EVERYTHING, validation=validation, test=test, truth=truth)
    rows = result.history.to_pylist()
    steps = [row.pop("step") for row in rows]
    seconds = [row.pop("seconds") for row in rows]
    assert steps == list(states)
    assert seconds == sorted(seconds)
    assert result.seconds >= seconds[-1] > 0
    plain = plain_descent(PROBLEM.factors, PROBLEM.observations(), RULES["momentum"], steps)
    for row, state, expected in zip(rows, states.values(), plain, strict=True):
        assert_close(state, expected, 1e-9)
        wanted = measured(state, validation, test, truth)
        assert list(row) == list(wanted)
        for name, value in wanted.items():
            assert row[name] == pytest.approx(value, rel=1e-10, abs=1e-12), name


@pytest.mark.parametrize(
    ("recording", "steps"),
    [
        (Recording(per_decade=3), [0, 1, 2, 5, 10, 22, 46, 100, 215, 300]),
        (Recording(every=100), [0, 100, 200, 300]),
        (Recording(every=70), [0, 70, 140, 210, 280, 300]),
        (Recording(every=1000), [0, 300]),
    ],
)
def test_rows_come_at_the_scheduled_steps_and_at_the_end(recording: Recording, steps: list[int]) -> None:
    result, states = recorded(steps=300, recording=recording)
    assert result.history["step"].to_pylist() == steps == list(states)


def test_no_step_at_all_records_the_start() -> None:
    result, states = recorded(steps=0)
    assert (result.steps, result.stopped_because, list(states)) == (0, "steps", [0])
    assert_equal(states[0], PROBLEM.factors)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_is_the_mean_and_the_gradient_that_of_the_reduction(reduction: Any) -> None:
    train = PROBLEM.observations()
    options = DescentOptions(steps=0, reduction=reduction)
    row = descend(start(PROBLEM), train, GradientDescent(lr=1), options).history.to_pylist()[0]
    assert row["train_loss"] == pytest.approx(PROBLEM.reference_loss("mean").item(), rel=1e-13)
    gradients = torch.autograd.grad(PROBLEM.reference_loss(reduction), PROBLEM.factors)
    norm = math.hypot(*(gradient.norm().item() for gradient in gradients))
    assert row["gradient_norm"] == pytest.approx(norm, rel=1e-13)


def test_weight_decay_is_no_part_of_loss_and_gradient_norm() -> None:
    rows = [
        descend(start(PROBLEM), PROBLEM.observations(), GradientDescent(lr=1, weight_decay=decay), options)
        .history.drop_columns("seconds")
        .to_pylist()
        for decay in (0.0, 5.0)
        for options in [DescentOptions(steps=0)]
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e22])
@pytest.mark.usefixtures("instruction_set")
def test_the_norm_of_tiny_and_huge_gradients_is_right_in_float32(scale: float) -> None:
    problem = make_problem((40, 30), pattern="full", seed=5, dtype=torch.float32)
    train = problem.observations().with_values(problem.values * scale)
    factors = [torch.zeros(30, 40)]
    row = descend(factors, train, GradientDescent(lr=0), DescentOptions(steps=0)).history.to_pylist()[0]
    expected = 2 * (problem.values.double() * scale).norm().item() / len(train)
    assert row["gradient_norm"] == pytest.approx(expected, rel=1e-5, abs=0)


def test_what_a_callback_does_to_its_factors_does_not_reach_the_run() -> None:
    def spoil(progress: DescentProgress) -> None:
        for factor in progress.factors:
            factor.fill_(math.nan)

    validation = other_observations(2)
    spoiled, left_alone = start(PROBLEM), start(PROBLEM)
    for factors, callbacks in ((spoiled, [spoil]), (left_alone, [])):
        descend(
            factors,
            PROBLEM.observations(),
            RULES["adam"],
            DescentOptions(steps=50),
            validation=validation,
            callbacks=callbacks,
        )
    assert_equal(spoiled, left_alone)


def test_callbacks_see_the_rows_of_the_history_in_their_order() -> None:
    seen: list[Any] = []
    result = descend(
        start(PROBLEM),
        PROBLEM.observations(),
        RULES["adam"],
        DescentOptions(steps=20),
        recording=Recording(every=10),
        callbacks=[
            lambda progress: seen.append(("first", progress.row)),
            lambda progress: seen.append("second"),
        ],
    )
    assert seen == [one for row in result.history.to_pylist() for one in (("first", row), "second")]


def test_progress_goes_to_standard_error_where_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for progress in (None, False):
        descend(start(PROBLEM), PROBLEM.observations(), RULES["adam"], DescentOptions(3, progress=progress))
    assert capsys.readouterr() == ("", "")
    descend(start(PROBLEM), PROBLEM.observations(), RULES["adam"], DescentOptions(3, progress=True))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3.00/3.00" in captured.err
