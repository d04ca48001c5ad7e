"""Checkpoints of descend: a run that goes on is bitwise the run that never stopped, whatever stopped it."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
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

DIMS = (9, 6, 4, 8)
OTHER_DIMS = (9, 6, 5, 8)
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
    assert len(list(tmp_path.iterdir())) == 1
    assert_same(run(10_000, tmp_path, rule=rule, checkpoint_every=1, resume=True), whole)
    good = run(whole[1].steps - 1, tmp_path, rule=rule, validation=VALIDATION, resume=True)
    assert (good[1].stopped_because, good[1].steps) == ("steps", whole[1].steps - 1)
    assert math.isfinite(good[1].history["train_loss"].to_pylist()[-1])


# Runs that outlast twenty kills: their options, and the seconds between saves and between slices.
SEVERED: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "every step": ({"steps": 5000, "checkpoint_every": 1}, {}),
    "by time": ({"steps": 2_000_000}, {"_SECONDS_A_CHECKPOINT": 0.01, "_SECONDS_A_SLICE": 0.005}),
}
KILLED_AGAIN_AND_AGAIN = """
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, {root!r})
from dmf_fast.training import Recording, descent_run
from tests.training.descents import RULES
from tests.training.test_descend_checkpoints import SEVERED, run

options, seconds = SEVERED[{saved!r}]
for name, value in seconds.items():
    assert hasattr(descent_run, name)
    setattr(descent_run, name, value)
arguments = {{"rule": RULES[{rule!r}], "recording": Recording()}}
folder, random_numbers = Path({folder!r}), random.Random(0)
run(1, **arguments)  # what the first step loads, the children have
kills_amid_the_run, end = 0, time.monotonic() + 12
while kills_amid_the_run < 20 and time.monotonic() < end:
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        run(folder=folder, resume=True, **options, **arguments)
        os._exit(0)
    time.sleep(random_numbers.uniform(0.0, 0.15))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        assert os.WEXITSTATUS(status) == 0
        break
    kills_amid_the_run += any(folder.glob("version-*"))
print(kills_amid_the_run)
"""


@pytest.mark.parametrize(
    ("saved", "name"), [("every step", "group-rmsprop"), ("every step", "adam"), ("by time", "momentum")]
)
def test_a_run_killed_at_random_instants_resumes_to_the_same_numbers(
    tmp_path: Path, saved: str, name: str
) -> None:
    folder = tmp_path / "kept"
    script = KILLED_AGAIN_AND_AGAIN.format(
        root=str(Path(__file__).parents[2]), saved=saved, rule=name, folder=str(folder)
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5
    steps, arguments = SEVERED[saved][0]["steps"], {"rule": RULES[name], "recording": Recording()}
    assert_same(run(steps, folder, resume=True, **arguments), run(steps, **arguments))


def changed_value(observations: Observations) -> Observations:
    values = observations.values.clone()
    values[3] += 1e-6
    return observations.with_values(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rule": RULES["adam"]}, "rule.rule was GradientDescent there and is Adam here"),
        ({"rule": replace(RULES["momentum"], lr=0.03)}, "rule.lr was 0.02 there and is 0.03 here"),
        ({"rule": replace(RULES["momentum"], weight_decay=0.5)}, "rule.weight_decay was 0.0"),
        (
            {"dims": OTHER_DIMS},
            r"factors\[1\] was torch.float64 \(4, 6\) there and is torch.float64 \(5, 6\)",
        ),
        ({"dims": DIMS[:2] + DIMS[3:]}, r"factors\[1\] was .* \(4, 6\) there and is .* \(8, 6\) here"),
        ({"dims": (9, 6, 4, 8, 8)}, r"factors\[3\] was None there"),
        ({"dtype": torch.float32}, r"factors\[0\] was torch.float64 .* is torch.float32"),
        ({"train": changed_value(TRAIN)}, "train was"),
        ({"train": TRAIN.with_values(TRAIN.values)}, "train was"),
        ({"validation": changed_value(VALIDATION)}, "validation was"),
        ({"validation": None}, "validation was .* and is None here"),
        ({"test": VALIDATION}, "test was None there"),
        ({"recording": replace(RECORDING, every=5)}, "recording.every was 10 there and is 5 here"),
        ({"recording": Recording(singular_values=2)}, "recording.every was 10 there and is None here"),
        ({"recording": replace(RECORDING, singular_values=1)}, "recording.singular_values was 2"),
        ({"recording": replace(RECORDING, spectrum=True)}, "recording.spectrum was False"),
        ({"reduction": "sum"}, "options.reduction was mean there and is sum here"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    run(20, tmp_path)
    with pytest.raises(ValueError, match=f"belongs to another run: {words}"):
        run(60, tmp_path, resume=True, **change)
    assert_same(run(60, tmp_path, resume=True), run(60))


def test_a_refused_resume_leaves_the_factors_alone(tmp_path: Path) -> None:
    run(20, tmp_path)
    factors = start(make_problem(DIMS, seed=1))
    with pytest.raises(ValueError, match="belongs to another run"):
        descend(factors, TRAIN, RULES["adam"], checkpoint=tmp_path, resume=True)
    assert_equal(factors, start(make_problem(DIMS, seed=1)))


def test_a_run_is_not_written_over_without_resume(tmp_path: Path) -> None:
    run(20, tmp_path)
    with pytest.raises(ValueError, match="holds a checkpoint already"):
        run(60, tmp_path)
    assert_same(run(60, tmp_path, resume=True), run(60))


def test_a_file_is_not_a_checkpoint_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="must be a folder"):
        run(20, tmp_path / "file")


def test_a_checkpoint_of_a_run_with_another_truth_is_refused(tmp_path: Path) -> None:
    factors = [torch.eye(2, dtype=torch.float64)]
    train = Observations([0, 1], [0, 1], [2.0, 3.0], (2, 2), dtype=torch.float64)
    options, truth = DescentOptions(steps=3), torch.ones(2, 2, dtype=torch.float64)
    descend(factors, train, GradientDescent(0.1), options, truth=truth, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="truth was"):
        descend(
            factors, train, GradientDescent(0.1), options, truth=2 * truth, checkpoint=tmp_path, resume=True
        )
