"""Why descend ends."""

from __future__ import annotations

import math
import signal
import threading
import time
from typing import Any

import pytest
import torch
from torch import Tensor

from dmf_fast import Observations
from dmf_fast.training import (
    DescentOptions,
    DescentProgress,
    DescentResult,
    GradientDescent,
    GroupRMSprop,
    Recording,
    Rule,
    descend,
    descent_run,
)
from tests.problems import make_problem
from tests.training.descents import RULES, assert_equal, start

PROBLEM = make_problem((9, 6, 8), density=0.6, seed=1)
TRAIN = PROBLEM.observations()
OTHER = make_problem((9, 8), density=0.4, seed=2).observations()
RULE = RULES["gradient descent"]
SELDOM = Recording(every=10**9)

pytestmark = pytest.mark.usefixtures("bounded")


def run(
    steps: int = 300, *, rule: Rule = RULE, arguments: dict[str, Any] | None = None, **options: Any
) -> tuple[list[Tensor], DescentResult]:
    factors = start(PROBLEM)
    return factors, descend(factors, TRAIN, rule, DescentOptions(steps=steps, **options), **(arguments or {}))


@pytest.mark.parametrize(
    ("column", "option"),
    [("train_loss", "train_loss_threshold"), ("gradient_norm", "gradient_norm_threshold")],
)
@pytest.mark.usefixtures("instruction_set")
def test_it_stops_at_the_first_step_that_is_at_a_threshold(column: str, option: str) -> None:
    _, whole = run(arguments={"recording": Recording(every=1)})
    values = whole.history[column].to_pylist()
    threshold = values[137]
    first = next(step for step, value in enumerate(values) if value <= threshold)
    for recording in (SELDOM, Recording(every=first), Recording(every=first + 1)):
        _, result = run(arguments={"recording": recording}, **{option: threshold})
        assert (result.stopped_because, result.steps) == (option, first)
        assert result.history["step"].to_pylist()[-1] == first
        assert result.history[column].to_pylist()[-1] == values[first]


def test_a_threshold_that_holds_at_the_start_makes_no_step() -> None:
    factors, result = run(train_loss_threshold=1e9)
    assert (result.stopped_because, result.steps, len(result.history)) == ("train_loss_threshold", 0, 1)
    assert_equal(factors, PROBLEM.factors)


def test_a_threshold_of_zero_is_reached_by_a_perfect_start() -> None:
    exact = [torch.eye(3), torch.eye(3)]
    train = Observations([0, 1], [0, 2], [1.0, 0.0], (3, 3))
    for option in ("train_loss_threshold", "gradient_norm_threshold"):
        result = descend(exact, train, RULE, DescentOptions(**{option: 0.0}))
        assert (result.stopped_because, result.steps) == (option, 0)


def test_a_threshold_beats_the_last_step_and_divergence_beats_all() -> None:
    assert run(0, train_loss_threshold=1e9)[1].stopped_because == "train_loss_threshold"
    factors = [factor.mul_(math.nan) for factor in start(PROBLEM)]
    result = descend(factors, TRAIN, RULE, DescentOptions(steps=0, max_seconds=0.0))
    assert result.stopped_because == "diverged"


def test_a_callback_that_returns_true_ends_the_run() -> None:
    callbacks = [lambda progress: progress.step == 30, lambda progress: None]
    _, result = run(arguments={"callbacks": callbacks, "recording": Recording(every=10)})
    assert (result.stopped_because, result.steps) == ("callback", 30)
    assert result.history["step"].to_pylist() == [0, 10, 20, 30]


def test_no_time_at_all_records_the_start() -> None:
    factors, result = run(max_seconds=0.0)
    assert (result.stopped_because, result.steps) == ("max_seconds", 0)
    assert_equal(factors, PROBLEM.factors)


def assert_is_a_run_of(result: DescentResult, factors: list[Tensor]) -> None:
    """What was stopped amid an interval is the run with so many steps, recorded at its end."""
    assert result.steps > 0
    assert result.history["step"].to_pylist() == [0, result.steps]
    shorter, _ = run(result.steps, arguments={"recording": SELDOM})
    assert_equal(factors, shorter)


def test_time_is_up_amid_a_long_interval() -> None:
    factors, result = run(10**12, max_seconds=0.25, arguments={"recording": SELDOM})
    assert result.stopped_because == "max_seconds"
    assert_is_a_run_of(result, factors)


def test_ctrl_c_ends_the_run_amid_a_long_interval() -> None:
    timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
    timer.start()
    factors, result = run(10**12, max_seconds=60.0, arguments={"recording": SELDOM})
    timer.join()
    assert result.stopped_because == "interrupted"
    assert_is_a_run_of(result, factors)


def test_ctrl_c_in_a_callback_ends_the_run_before_the_next_row_but_one() -> None:
    def press(progress: DescentProgress) -> None:
        if progress.step == 20:
            signal.raise_signal(signal.SIGINT)

    _, result = run(arguments={"callbacks": [press], "recording": Recording(every=10)})
    assert result.stopped_because == "interrupted"
    assert 20 <= result.steps <= 30
    assert result.history["step"].to_pylist()[-1] == result.steps


def test_an_interrupt_that_a_callback_raises_ends_the_run_at_its_row() -> None:
    def interrupt(progress: DescentProgress) -> None:
        if progress.step == 20:
            raise KeyboardInterrupt

    _, result = run(arguments={"callbacks": [interrupt], "recording": Recording(every=10)})
    assert (result.stopped_because, result.steps, len(result.history)) == ("interrupted", 20, 3)


def test_a_second_ctrl_c_raises_at_once_and_leaves_the_factors_alone() -> None:
    def press(progress: DescentProgress) -> None:
        signal.raise_signal(signal.SIGINT)

    factors = start(PROBLEM)
    with pytest.raises(KeyboardInterrupt):
        descend(factors, TRAIN, RULE, recording=InterruptsTwice(every=10), callbacks=[press])
    assert_equal(factors, PROBLEM.factors)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class InterruptsTwice(Recording):
    """A schedule during which Ctrl-C is pressed again."""

    def next_step(self, step: int) -> int:
        if step == 0:
            signal.raise_signal(signal.SIGINT)
        return super().next_step(step)


def test_other_errors_of_callbacks_are_raised() -> None:
    def fail(progress: DescentProgress) -> None:
        raise LookupError("not mine")

    with pytest.raises(LookupError, match="not mine"):
        run(arguments={"callbacks": [fail]})


def noisy(steps: int, **options: Any) -> tuple[list[Tensor], DescentResult, dict[int, list[Tensor]]]:
    """A run that overfits: its validation RMSE falls and rises again."""
    states: dict[int, list[Tensor]] = {}

    def keep(progress: DescentProgress) -> None:
        states[progress.step] = progress.factors

    factors = [0.3 * factor for factor in start(PROBLEM)]
    arguments: dict[str, Any] = {"recording": Recording(every=20), "validation": OTHER, "callbacks": [keep]}
    result = descend(factors, TRAIN, RULE, DescentOptions(steps=steps, **options), **arguments)
    return factors, result, states


def test_the_state_of_the_best_validation_is_restored() -> None:
    factors, result, states = noisy(2000)
    errors, steps = (result.history[name].to_pylist() for name in ("validation_rmse", "step"))
    assert result.best_step == steps[errors.index(min(errors))]
    assert result.best_step is not None
    assert 0 < result.best_step < 2000
    assert_equal(factors, states[result.best_step])


def test_patience_counts_rows_without_a_better_validation() -> None:
    factors, result, states = noisy(2000, patience=3)
    errors = result.history["validation_rmse"].to_pylist()
    assert result.stopped_because == "patience"
    assert errors.index(min(errors)) == len(errors) - 4
    assert result.best_step is not None
    assert result.steps == result.best_step + 3 * 20
    assert_equal(factors, states[result.best_step])


@pytest.mark.parametrize("every", [1, 10, 1000])
@pytest.mark.parametrize(
    "rule", [GradientDescent(lr=1e3), GradientDescent(lr=1e3, momentum=0.9), GroupRMSprop(lr=1e80)]
)
@pytest.mark.usefixtures("descent_plan")
def test_divergence_ends_the_run_as_soon_as_the_loss_is_not_finite(rule: Rule, every: int) -> None:
    _, whole = run(1000, rule=rule, arguments={"recording": Recording(every=1)})
    losses = whole.history["train_loss"].to_pylist()
    assert whole.stopped_because == "diverged"
    assert [math.isfinite(loss) for loss in losses] == [True] * whole.steps + [False]
    _, result = run(1000, rule=rule, arguments={"recording": Recording(every=every)})
    assert (result.stopped_because, result.steps) == ("diverged", whole.steps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.usefixtures("descent_plan", "instruction_set")
def test_a_start_that_is_not_finite_has_diverged(number: float, dtype: torch.dtype) -> None:
    factors = start(PROBLEM, dtype)
    factors[1][int(TRAIN.rows[0])] = number
    result = descend(factors, TRAIN.to(dtype=dtype), RULE)
    assert (result.stopped_because, result.steps, len(result.history)) == ("diverged", 0, 1)
    row = result.history.to_pylist()[0]
    assert not math.isfinite(row["train_loss"])
    assert row["gradient_norm"] is None


def test_a_diverged_run_restores_the_best_state_before() -> None:
    arguments = {"recording": Recording(every=1), "validation": OTHER}
    factors, result = run(1000, rule=GradientDescent(lr=1e3), arguments=arguments)
    assert result.stopped_because == "diverged"
    assert result.best_step is not None
    assert all(factor.isfinite().all() for factor in factors)


def test_a_run_that_pauses_as_often_as_it_can_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, whole = run()
    monkeypatch.setattr(descent_run, "_SECONDS_A_SLICE", 0.0)
    factors, result = run()
    assert_equal(factors, expected)
    assert result.history.drop_columns("seconds").equals(whole.history.drop_columns("seconds"))


def test_the_time_of_a_run_is_its_own() -> None:
    began = time.perf_counter()
    _, result = run(max_seconds=0.1, steps=10**12)
    assert 0.1 <= result.seconds <= time.perf_counter() - began
