"""Checkpoints that a run refuses to resume from or to overwrite, and how much time they take."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from dmf_fast import Observations
from dmf_fast._native import Outcome
from dmf_fast.optim import GroupRMSprop
from dmf_fast.training import Recording
from dmf_fast.training import course as course_module
from dmf_fast.training import run as run_module
from tests.assertions import assert_equal, assert_same
from tests.problems import make_problem
from tests.training.conftest import Clock
from tests.training.runs import DIMS, RECORDING, RULES, others, problem, run, start

TRAIN, VALIDATION = problem().observations(), others()


def changed_value(observations: Observations) -> Observations:
    values = observations.values.clone()
    values[3] += 1e-6
    return observations.with_values(values, observations.weights)


def other_factors(*dims: int) -> dict[str, Any]:
    return {"factors": start(make_problem(dims, seed=1))}


def momentum(**options: Any) -> Any:
    return partial(torch.optim.SGD, **({"lr": 0.02, "momentum": 0.9} | options))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optimizer": RULES["Adam"]}, "optimizer was SGD there and is Adam here"),
        ({"optimizer": momentum(lr=0.03)}, "optimizer.lr was 0.02 there and is 0.03 here"),
        ({"optimizer": momentum(weight_decay=0.5)}, "optimizer.weight_decay was 0.0"),
        (other_factors(9, 6, 5, 8), r"model.factors.1 was torch.float64 \(4, 6\) there and is .* \(5, 6\)"),
        (other_factors(9, 6, 8), r"model.factors.1 was .* \(4, 6\) there and is .* \(8, 6\) here"),
        (other_factors(9, 6, 4, 8, 8), r"model.factors.3 was None there"),
        (
            {"dtype": torch.float32, "factors": start(problem(), torch.float32)},
            "model.mean was torch.float64",
        ),
        ({"train": changed_value(TRAIN)}, "train was"),
        ({"train": TRAIN.with_values(TRAIN.values)}, "train was"),
        ({"validation": changed_value(VALIDATION)}, "validation was"),
        ({"validation": None}, "validation was .* and is None here"),
        ({"test": VALIDATION}, "test was None there"),
        ({"truth": torch.ones(8, 9)}, "truth was None there"),
        ({"recording": replace(RECORDING, every=5)}, "recording.every was 10 there and is 5 here"),
        ({"recording": Recording(singular_values=2)}, "recording.every was 10 there and is None here"),
        ({"recording": replace(RECORDING, singular_values=1)}, "recording.singular_values was 2"),
        ({"recording": replace(RECORDING, spectrum=True)}, "recording.spectrum was False"),
        ({"reduction": "sum"}, "options.reduction was mean there and is sum here"),
        ({"gradient_clip": 0.5}, "options.gradient_clip was None there and is 0.5 here"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"validation": VALIDATION, "checkpoint": tmp_path}
    run("native", 20, **given)
    with pytest.raises(ValueError, match=f"belongs to another run: {words}"):
        run("native", 60, **given | {"resume": True} | change)
    whole = run("native", 60, validation=VALIDATION)
    assert_same(run("native", 60, resume=True, **given), whole)


def test_a_checkpoint_of_another_engine_is_refused(tmp_path: Path) -> None:
    run("native", 20, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="belongs to another run: engine was native there and is torch here"):
        run("torch", 60, checkpoint=tmp_path, resume=True)
    assert run("auto", 60, checkpoint=tmp_path, resume=True)[1].engine == "native"


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        (lambda factors: torch.optim.Adam(factors, lr=0.01), "optimizer was GroupRMSprop there and is Adam"),
        (lambda factors: GroupRMSprop(factors, lr=0.02), r"optimizer.param_groups\[0\].lr was 0.01"),
    ],
)
def test_a_checkpoint_of_another_bound_optimizer_is_refused(tmp_path: Path, bound: Any, words: str) -> None:
    factors = start(problem())
    run("auto", 20, factors=factors, optimizer=GroupRMSprop(factors, lr=0.01), checkpoint=tmp_path)
    other = start(problem())
    with pytest.raises(ValueError, match=f"belongs to another run: {words}"):
        run("auto", 60, factors=other, optimizer=bound(other), checkpoint=tmp_path, resume=True)
    assert_equal(other, start(problem()))


def test_a_checkpoint_of_a_run_with_another_truth_is_refused(tmp_path: Path) -> None:
    truth = torch.ones(DIMS[-1], DIMS[0], dtype=torch.float64)
    run("auto", 3, truth=truth, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="truth was"):
        run("auto", 3, truth=2 * truth, checkpoint=tmp_path, resume=True)


def test_a_refused_resume_leaves_the_factors_alone(tmp_path: Path) -> None:
    run("auto", 20, checkpoint=tmp_path)
    factors = start(problem())
    with pytest.raises(ValueError, match="belongs to another run"):
        run("auto", factors=factors, optimizer=RULES["Adam"], checkpoint=tmp_path, resume=True)
    assert_equal(factors, start(problem()))


def test_a_run_is_not_written_over_without_resume(tmp_path: Path) -> None:
    run("auto", 20, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="already holds a checkpoint"):
        run("auto", 60, checkpoint=tmp_path)
    assert_same(run("auto", 60, checkpoint=tmp_path, resume=True), run("auto", 60))


def test_a_file_is_not_a_checkpoint_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="must be a folder"):
        run("auto", 20, checkpoint=tmp_path / "file")


def test_checkpoints_that_take_long_to_save_are_saved_less_often(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, ended = [clock.now], [clock.now]
    make_slice = course_module.make_slice

    def slow(*given: Any) -> None:
        began.append(clock.now)
        clock.now += 1.0
        ended.append(clock.now)

    def make_and_wait(request: course_module.Request) -> Outcome:
        clock.now += 0.25
        return make_slice(request)

    monkeypatch.setattr(run_module, "save_checkpoint", slow)
    monkeypatch.setattr(run_module, "_SECONDS_A_CHECKPOINT", 8.0)
    monkeypatch.setattr(course_module, "SECONDS_A_SLICE", 0.0)
    monkeypatch.setattr(course_module, "make_slice", make_and_wait)
    run("native", 10**12, recording=Recording(every=10**12), max_seconds=200.0, checkpoint=tmp_path)
    pauses = [start - end for start, end in zip(began[1:], ended[:-1], strict=True)]
    assert pauses[1:-1] == pytest.approx([50.0] * 3, abs=0.5)  # 50 times as long as a save
    assert pauses[0] >= 8.0
