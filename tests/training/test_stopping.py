"""Why a run ends, whatever makes its steps."""

from __future__ import annotations

import math
import signal
import time
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from dmf_fast import Observations
from dmf_fast.optim import GroupRMSprop
from dmf_fast.training import FitResult, Progress, Recording
from dmf_fast.training import course as course_module
from tests import problems
from tests.assertions import assert_equal, assert_same
from tests.training.conftest import AmidInterval, Clock
from tests.training.runs import PLAIN, SELDOM, noisy_rank_one, others, problem, run, start

SGD = PLAIN["gradient descent"]

pytestmark = pytest.mark.usefixtures("bounded")


@pytest.mark.parametrize(
    ("column", "option"),
    [("train_loss", "train_loss_threshold"), ("gradient_norm", "gradient_norm_threshold")],
)
def test_it_stops_at_the_first_step_that_is_at_a_threshold(engine: str, column: str, option: str) -> None:
    _, whole = run(engine, 100, optimizer=SGD, recording=Recording(every=1))
    values = whole.history[column]
    threshold = values[57]
    first = next(step for step, value in enumerate(values) if value <= threshold)
    for recording in (SELDOM, Recording(every=first), Recording(every=first + 1)):
        _, result = run(engine, 100, optimizer=SGD, recording=recording, **{option: threshold})
        assert (result.stopped_because, result.steps) == (option, first)
        assert result.history["step"][-1] == first
        assert result.history[column][-1] == values[first]


def test_engines_stop_at_one_step(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rules: list[Any] = [{"train_loss_threshold": 0.6}, {"gradient_norm_threshold": 0.3}]
    ours = [run(engine, optimizer=SGD, recording=SELDOM, **rule)[1] for rule in rules]
    monkeypatch.setattr(problems, "DEVICE", "cpu")
    native = [run("native", optimizer=SGD, recording=SELDOM, **rule)[1] for rule in rules]
    for rule, mine, theirs in zip(rules, ours, native, strict=True):
        assert (mine.steps, mine.stopped_because) == (theirs.steps, *rule)
        assert 0 < mine.steps < 300


def test_a_threshold_that_holds_at_the_start_makes_no_step(engine: str) -> None:
    factors, result = run(engine, train_loss_threshold=1e9)
    assert (result.stopped_because, result.steps, result.history.table.num_rows) == (
        "train_loss_threshold",
        0,
        1,
    )
    assert_equal(factors, start(problem()))


def test_a_threshold_of_zero_is_reached_by_a_perfect_start(engine: str) -> None:
    train = Observations([0, 1], [0, 2], [1.0, 0.0], (3, 3), device=problems.DEVICE)
    for option in ("train_loss_threshold", "gradient_norm_threshold"):
        exact = [torch.eye(3, device=problems.DEVICE) for _ in range(2)]
        _, result = run(engine, factors=exact, train=train, dtype=torch.float32, **{option: 0.0})
        assert (result.stopped_because, result.steps) == (option, 0)


def test_a_threshold_beats_the_last_step_and_divergence_beats_all(engine: str) -> None:
    assert run(engine, 0, train_loss_threshold=1e9)[1].stopped_because == "train_loss_threshold"
    factors = [factor.mul_(math.nan) for factor in start(problem())]
    assert run(engine, 0, factors=factors, max_seconds=0.0)[1].stopped_because == "diverged"


def test_a_callback_that_returns_true_ends_the_run(engine: str) -> None:
    callbacks = [lambda progress: progress.step == 30, lambda progress: None]
    _, result = run(engine, callbacks=callbacks)
    assert (result.stopped_because, result.steps) == ("callback", 30)
    assert result.history["step"] == [0, 10, 20, 30]


def test_no_time_at_all_records_the_start(engine: str) -> None:
    factors, result = run(engine, max_seconds=0.0)
    assert (result.stopped_because, result.steps) == ("max_seconds", 0)
    assert_equal(factors, start(problem()))


def assert_is_a_run_of(engine: str, result: FitResult, factors: list[Tensor]) -> None:
    """The run with so many steps, recorded at its end."""
    assert result.steps > 0
    assert result.history["step"] == [0, result.steps]
    shorter, _ = run(engine, result.steps, recording=SELDOM)
    assert_equal(factors, shorter)


def test_time_is_up_within_a_long_interval(engine: str, clock: Clock, amid_interval: AmidInterval) -> None:
    amid_interval(partial(setattr, clock, "now", clock.now + 2000))
    factors, result = run(engine, 10**12, max_seconds=1000.0, recording=SELDOM)
    assert result.stopped_because == "max_seconds"
    assert_is_a_run_of(engine, result, factors)


def test_ctrl_c_ends_the_run_within_a_long_interval(engine: str, amid_interval: AmidInterval) -> None:
    amid_interval(partial(signal.raise_signal, signal.SIGINT))
    factors, result = run(engine, 10**12, recording=SELDOM)
    assert result.stopped_because == "interrupted"
    assert_is_a_run_of(engine, result, factors)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_in_a_callback_ends_the_run_before_the_next_row_but_one(engine: str) -> None:
    def press(progress: Progress) -> None:
        if progress.step == 20:
            signal.raise_signal(signal.SIGINT)

    _, result = run(engine, callbacks=[press])
    assert result.stopped_because == "interrupted"
    assert 20 <= result.steps <= 30
    assert result.history["step"][-1] == result.steps


def test_an_interrupt_that_a_callback_raises_ends_the_run_at_its_row(engine: str) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.step == 20:
            raise KeyboardInterrupt

    _, result = run(engine, callbacks=[interrupt])
    assert (result.stopped_because, result.steps, result.history.table.num_rows) == ("interrupted", 20, 3)


def test_a_second_ctrl_c_raises_at_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        run("auto", recording=InterruptsTwice(every=10))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class InterruptsTwice(Recording):
    """A schedule during which Ctrl-C is pressed two times."""

    def next_step(self, step: int) -> int:
        if step == 0:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return super().next_step(step)


def test_other_errors_of_callbacks_are_raised() -> None:
    def fail(progress: Progress) -> None:
        raise LookupError("not mine")

    with pytest.raises(LookupError, match="not mine"):
        run("auto", callbacks=[fail])


def overfitting(
    engine: str, steps: int = 2000, **options: Any
) -> tuple[list[Tensor], FitResult, dict[int, list[Tensor]]]:
    """A run whose validation RMSE falls and rises again, and its states by step."""
    states: dict[int, list[Tensor]] = {}

    def keep(progress: Progress) -> None:
        states[progress.step] = progress.factors

    factors = [0.6 * factor for factor in start(problem())]
    train, validation = noisy_rank_one()
    rest = {"recording": Recording(every=20), "validation": validation, "callbacks": [keep]} | options
    return *run(engine, steps, factors=factors, train=train, **rest), states


def test_the_state_of_the_best_validation_is_restored(engine: str) -> None:
    factors, result, states = overfitting(engine, 300)
    errors, steps = (result.history[name] for name in ("validation_rmse", "step"))
    assert result.best_step == steps[errors.index(min(errors))]
    assert result.best_step is not None
    assert 0 < result.best_step < 300
    assert_equal(factors, states[result.best_step])


def test_patience_counts_rows_without_a_better_validation(engine: str) -> None:
    factors, result, states = overfitting(engine, patience=3)
    errors = result.history["validation_rmse"]
    assert result.stopped_because == "patience"
    assert errors.index(min(errors)) == len(errors) - 4
    assert result.best_step
    assert result.steps == result.best_step + 3 * 20
    assert_equal(factors, states[result.best_step])


DIVERGING = {
    "gradient descent": partial(torch.optim.SGD, lr=1e3),
    "momentum": partial(torch.optim.SGD, lr=1e3, momentum=0.9),
    "group RMSprop": partial(GroupRMSprop, lr=1e80),
}


@pytest.mark.parametrize("every", [1, 10, 1000])
@pytest.mark.parametrize("name", DIVERGING)
@pytest.mark.usefixtures("descent_plan")
def test_divergence_ends_a_native_run_as_soon_as_the_loss_is_not_finite(name: str, every: int) -> None:
    assert_diverges("native", name, every)


@pytest.mark.parametrize("name", DIVERGING)
def test_divergence_ends_the_run_as_soon_as_the_loss_is_not_finite(engine: str, name: str) -> None:
    assert_diverges(engine, name, 10)


def assert_diverges(engine: str, name: str, every: int) -> None:
    _, whole = run(engine, 1000, optimizer=DIVERGING[name], recording=Recording(every=1))
    losses = whole.history["train_loss"]
    assert whole.stopped_because == "diverged"
    assert [math.isfinite(loss) for loss in losses] == [True] * whole.steps + [False]
    _, result = run(engine, 1000, optimizer=DIVERGING[name], recording=Recording(every=every))
    assert (result.stopped_because, result.steps) == ("diverged", whole.steps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_start_that_is_not_finite_has_diverged(kernels: str, number: float, dtype: torch.dtype) -> None:
    factors = start(problem(), dtype)
    factors[2][int(problem().rows[0])] = number
    _, result = run(kernels, factors=factors, dtype=dtype)
    assert (result.stopped_because, result.steps, result.history.table.num_rows) == ("diverged", 0, 1)
    row = result.history.table.to_pylist()[0]
    assert not math.isfinite(row["train_loss"])
    assert row["gradient_norm"] is row["singular_value_1"] is None


def test_a_diverged_run_restores_the_best_state_before(engine: str) -> None:
    optimizer = DIVERGING["gradient descent"]
    factors, result = run(engine, optimizer=optimizer, recording=Recording(every=1), validation=others())
    assert result.stopped_because == "diverged"
    assert result.best_step is not None
    assert all(factor.isfinite().all() for factor in factors)


def test_a_run_that_pauses_as_often_as_it_can_is_the_same(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(engine, 60)
    monkeypatch.setattr(course_module, "SECONDS_A_SLICE", 0.0)
    assert_same(run(engine, 60), expected)


def test_the_time_of_a_run_is_its_own(engine: str) -> None:
    began = time.perf_counter()
    _, result = run(engine, 10**12, max_seconds=0.1)
    assert 0.1 <= result.seconds <= time.perf_counter() - began
