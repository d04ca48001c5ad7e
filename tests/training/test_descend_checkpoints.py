"""Checkpoints of descend: a run that goes on is bitwise the run that never stopped, whatever stopped it."""

from __future__ import annotations

import math
from pathlib import Path
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
    Recording,
    Rule,
    descend,
    descent_run,
)
from tests.problems import make_problem
from tests.training.descents import RULES, assert_equal, start
from tests.training.killing import assert_runs

pytestmark = pytest.mark.usefixtures("bounded")

DIMS = (9, 6, 4, 8)
TRAIN = make_problem(DIMS, density=0.5, weighted=True, seed=1).observations()
VALIDATION = make_problem((9, 8), density=0.4, seed=2).observations()
RECORDING = Recording(every=10, singular_values=2)

Run = tuple[list[Tensor], DescentResult]


def run(
    steps: int,
    folder: Path | None = None,
    *,
    rule: Rule = RULES["momentum"],
    dims: tuple[int, ...] = DIMS,
    dtype: torch.dtype = torch.float64,
    train: Observations = TRAIN,
    validation: Observations | None = VALIDATION,
    test: Observations | None = None,
    recording: Recording = RECORDING,
    callbacks: Any = (),
    resume: bool = False,
    **options: Any,
) -> Run:
    factors = start(make_problem(dims, seed=1), dtype)
    result = descend(
        factors,
        train.to(dtype=dtype),
        rule,
        DescentOptions(steps=steps, **options),
        recording=recording,
        validation=validation,
        test=test,
        callbacks=callbacks,
        checkpoint=folder,
        resume=resume,
    )
    return factors, result


def assert_same(one: Run, other: Run) -> None:
    assert_equal(one[0], other[0])
    first, second = one[1], other[1]
    assert first.history.drop_columns("seconds").equals(second.history.drop_columns("seconds"))
    assert (first.steps, first.best_step, first.stopped_because) == (
        second.steps,
        second.best_step,
        second.stopped_because,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("stop", [1, 20, 37])
@pytest.mark.usefixtures("descent_plan")
def test_a_resumed_run_is_the_uninterrupted_one(
    tmp_path: Path, name: str, stop: int, dtype: torch.dtype
) -> None:
    # Without a validation set the factors at the end are those of the last step.
    for validation, folder in ((None, tmp_path / "last"), (VALIDATION, tmp_path / "best")):
        arguments: dict[str, Any] = {"rule": RULES[name], "dtype": dtype, "recording": RECORDING}
        arguments["validation"] = None if validation is None else validation.to(dtype=dtype)
        run(stop, folder, **arguments)
        assert_same(run(60, folder, resume=True, **arguments), run(60, **arguments))


@pytest.mark.parametrize("name", ["momentum", "group-rmsprop", "adam"])
def test_many_resumes_in_a_row_change_nothing(tmp_path: Path, name: str) -> None:
    rule, recording = RULES[name], Recording(per_decade=5)
    for stop in (0, 1, 2, 30, 30, 31, 59):
        run(stop, tmp_path, rule=rule, recording=recording, resume=True)
    resumed = run(60, tmp_path, rule=rule, recording=recording, resume=True)
    assert_same(resumed, run(60, rule=rule, recording=recording))


@pytest.mark.usefixtures("descent_plan")
def test_a_large_run_goes_on_too(tmp_path: Path) -> None:
    problem = make_problem((400, 300, 500), density=0.02, weighted=True, seed=2)
    train, ends = problem.observations(), []
    for steps, folder in ((2, tmp_path), (4, tmp_path), (4, None)):
        factors = start(problem)
        options, resume = DescentOptions(steps=steps), folder is not None
        descend(factors, train, RULES["adam"], options, checkpoint=folder, resume=resume)
        ends.append(factors)
    assert_equal(ends[1], ends[2])


def test_a_resume_takes_nothing_from_the_factors_that_it_is_given(tmp_path: Path) -> None:
    run(20, tmp_path)
    factors = [factor.mul_(math.nan) for factor in start(make_problem(DIMS, seed=1))]
    arguments: dict[str, Any] = {"recording": RECORDING, "validation": VALIDATION}
    options = DescentOptions(steps=60)
    rule = RULES["momentum"]
    result = descend(factors, TRAIN, rule, options, checkpoint=tmp_path, resume=True, **arguments)
    assert_same((factors, result), run(60))


def stop_at_20(progress: DescentProgress) -> bool:
    return progress.step == 20


def interrupt_at_20(progress: DescentProgress) -> None:
    if progress.step == 20:
        raise KeyboardInterrupt


@pytest.mark.parametrize("callback", [stop_at_20, interrupt_at_20])
def test_a_run_goes_on_after_a_callback_or_an_interrupt_has_stopped_it(tmp_path: Path, callback: Any) -> None:
    _, first = run(60, tmp_path, callbacks=[callback])
    assert first.steps == 20
    assert_same(run(60, tmp_path, resume=True), run(60))


def fail_at_40(progress: DescentProgress) -> None:
    if progress.step == 40:
        raise LookupError("not mine")


def test_a_run_goes_on_after_a_callback_has_failed(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="not mine"):
        run(60, tmp_path, callbacks=[fail_at_40], checkpoint_every=7)
    assert_same(run(60, tmp_path, checkpoint_every=7, resume=True), run(60))


def test_a_run_goes_on_after_its_time_was_up(tmp_path: Path) -> None:
    assert run(60, tmp_path, max_seconds=0.0)[1].stopped_because == "max_seconds"
    assert_same(run(60, tmp_path, resume=True), run(60))


def test_a_run_goes_on_after_its_time_was_up_amid_an_interval(tmp_path: Path) -> None:
    recording = Recording(every=10**9)
    _, first = run(10**12, tmp_path, recording=recording, max_seconds=0.05)
    assert (first.stopped_because, first.steps > 0) == ("max_seconds", True)
    steps = first.steps + 100
    assert_same(run(steps, tmp_path, recording=recording, resume=True), run(steps, recording=recording))


def test_a_threshold_may_change_and_is_met_at_the_same_step(tmp_path: Path) -> None:
    whole = run(300, recording=Recording(every=1))
    threshold = whole[1].history["train_loss"].to_pylist()[45]
    expected = run(300, train_loss_threshold=threshold)
    run(20, tmp_path)
    assert_same(run(300, tmp_path, train_loss_threshold=threshold, resume=True), expected)
    assert_same(run(300, tmp_path, train_loss_threshold=threshold, resume=True), expected)
    assert_same(run(300, tmp_path, resume=True), run(300))


def test_a_finished_run_resumes_to_its_own_result(tmp_path: Path) -> None:
    finished = run(60, tmp_path)
    assert_same(run(60, tmp_path, resume=True), finished)


def test_patience_goes_on_counting(tmp_path: Path) -> None:
    whole = run(5000, patience=4)
    assert whole[1].stopped_because == "patience"
    run(whole[1].steps - 15, tmp_path, patience=4)
    assert_same(run(5000, tmp_path, patience=4, resume=True), whole)
    assert_same(run(5000, tmp_path, patience=4, resume=True), whole)


def test_resume_without_a_checkpoint_starts_anew(tmp_path: Path) -> None:
    assert_same(run(30, tmp_path / "new", resume=True), run(30))


def test_seconds_count_the_time_before_the_resume(tmp_path: Path) -> None:
    _, first = run(30, tmp_path)
    _, second = run(60, tmp_path, resume=True)
    assert second.seconds > first.history["seconds"].to_pylist()[-2]
    seconds = second.history["seconds"].to_pylist()
    assert seconds == sorted(seconds)


def test_checkpoints_change_no_number_and_come_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    save = descent_run.save_checkpoint

    def noted(folder: Path, state: Any) -> None:
        saved.append(state.step)
        save(folder, state)

    monkeypatch.setattr(descent_run, "save_checkpoint", noted)
    assert_same(run(60, tmp_path / "every 25", checkpoint_every=25), run(60))
    assert saved == [0, 25, 50, 60]
    saved.clear()
    assert_same(run(60, tmp_path / "at the end"), run(60))
    assert saved == [60]
    monkeypatch.setattr(descent_run, "_SECONDS_A_CHECKPOINT", 0.0)
    monkeypatch.setattr(descent_run, "_SECONDS_A_SLICE", 0.0)
    saved.clear()
    assert_same(run(60, tmp_path / "always"), run(60))
    assert sorted(set(saved)) == list(range(61))


@pytest.mark.parametrize("rule", [GradientDescent(lr=1e3), GradientDescent(lr=1e3, momentum=0.9)])
def test_a_diverged_run_leaves_the_last_good_checkpoint(tmp_path: Path, rule: Rule) -> None:
    whole = run(10_000, rule=rule)
    assert whole[1].stopped_because == "diverged"
    assert_same(run(10_000, tmp_path, rule=rule, checkpoint_every=1), whole)
    assert len(list(tmp_path.glob("*-*"))) == 1
    assert_same(run(10_000, tmp_path, rule=rule, checkpoint_every=1, resume=True), whole)
    good = run(whole[1].steps - 1, tmp_path, rule=rule, validation=VALIDATION, resume=True)
    assert (good[1].stopped_because, good[1].steps) == ("steps", whole[1].steps - 1)
    assert math.isfinite(good[1].history["train_loss"].to_pylist()[-1])


# Runs that outlast the kills: their options, and the seconds between saves and between slices.
SEVERED: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "every step": ({"steps": 5000, "checkpoint_every": 1}, {}),
    "by time": ({"steps": 2_000_000}, {"_SECONDS_A_CHECKPOINT": 0.01, "_SECONDS_A_SLICE": 0.005}),
}
KILLED = """
from pathlib import Path
import torch
torch.set_num_threads(1)
from dmf_fast.training import Recording, descent_run
from tests.training.descents import RULES
from tests.training.killing import kill_again_and_again
from tests.training.test_descend_checkpoints import SEVERED, run

options, seconds = SEVERED[{saved!r}]
for name, value in seconds.items():
    assert hasattr(descent_run, name)
    setattr(descent_run, name, value)
arguments = {{"rule": RULES[{rule!r}], "recording": Recording()}}
run(1, **arguments)  # what the first step loads, the children have
folder = Path({folder!r})
kill_again_and_again(
    lambda: run(folder=folder, resume=True, **options, **arguments), lambda: any(folder.glob("version-*"))
)
"""


@pytest.mark.parametrize(
    ("saved", "name"), [("every step", "group-rmsprop"), ("every step", "adam"), ("by time", "momentum")]
)
def test_a_run_killed_at_random_instants_resumes_to_the_same_numbers(
    tmp_path: Path, saved: str, name: str
) -> None:
    folder = tmp_path / "kept"
    assert_runs(KILLED.format(saved=saved, rule=name, folder=str(folder)))
    steps, arguments = SEVERED[saved][0]["steps"], {"rule": RULES[name], "recording": Recording()}
    assert_same(run(steps, folder, resume=True, **arguments), run(steps, **arguments))
