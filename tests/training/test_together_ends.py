"""How runs end that advance together on a GPU: by Ctrl-C, by a failure, or after others have left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dmf_fast.files.lock import locked
from dmf_fast.training import TrialError, course, fit_many
from dmf_fast.training.together import GpuCourses
from dmf_fast.training.trial_files import checkpoint_of, folder_of, keep_result
from tests.training.block_trials import trial
from tests.training.blocks import Blocks
from tests.training.test_fit_many import assert_same

MODULE = sys.modules[fit_many.__module__]


def test_ctrl_c_keeps_what_has_ended_and_the_same_call_resumes(
    tmp_path: Path, blocks: Blocks, press_ctrl_c: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [trial(0, steps=5), trial(1, steps=200), trial(2, steps=200, depth=3)]
    whole = fit_many(given)
    began = len(blocks.launches)

    def interrupt(launches: int) -> None:
        if launches == began + 30:
            press_ctrl_c()

    blocks.before_launch = interrupt
    with monkeypatch.context() as patch:
        patch.setattr(course, "SECONDS_A_SLICE", 0.0)  # a step a launch
        ended = fit_many(given, folder=tmp_path)
    assert [one.trial.labels["seed"] for one in ended.results] == [0]
    assert len(blocks.launches) < began + 100
    blocks.before_launch, began = lambda launches: None, len(blocks.launches)
    assert_same(fit_many(given, folder=tmp_path), whole)
    assert min(start for _, start, _ in blocks.launches[began]) > 0


def test_a_second_ctrl_c_raises_when_the_states_are_kept(
    tmp_path: Path, blocks: Blocks, press_ctrl_c: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(launches: int) -> None:
        if launches in (5, 6):
            press_ctrl_c()

    blocks.before_launch = interrupt
    monkeypatch.setattr(course, "SECONDS_A_SLICE", 0.0)
    given = [trial(seed, steps=10**9, every=10**9) for seed in range(3)]
    with pytest.raises(KeyboardInterrupt):
        fit_many(given, folder=tmp_path)
    for one in given:
        assert any(checkpoint_of(folder_of(one, tmp_path)).glob("version-*"))


def test_a_trial_that_fails_is_named_and_stops_the_others(
    tmp_path: Path, blocks: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(ended: Any, folder: Path) -> None:
        if ended.trial.labels["seed"] == 2:
            raise LookupError("not mine")
        keep_result(ended, folder)

    given = [
        trial(0, steps=5),
        trial(2, steps=20),
        *(trial(seed, steps=10**9, every=10**9) for seed in (3, 4)),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(MODULE, "keep_result", failing)
        with pytest.raises(TrialError, match=r"^trials\[1\] .*'seed': 2.* failed: LookupError: not") as error:
            fit_many(given, folder=tmp_path)
    assert [one.trial.labels["seed"] for one in error.value.ended.results] == [0]
    for one in given[2:]:  # stopped, and to be resumed
        assert any(checkpoint_of(folder_of(one, tmp_path)).glob("version-*"))
    assert blocks.launches


def test_a_launch_that_fails_ends_all_runs(tmp_path: Path, blocks: Blocks) -> None:
    def out_of_memory(launches: int) -> None:
        if launches == 1:
            raise MemoryError("no room")

    given = [trial(seed) for seed in range(3)]
    blocks.before_launch = out_of_memory
    with pytest.raises(TrialError, match=r"^trials\[0\] .* failed: MemoryError: no room") as error:
        fit_many(given, folder=tmp_path)
    assert error.value.ended.results == []
    blocks.before_launch = lambda launches: None
    assert_same(fit_many(given, folder=tmp_path), fit_many(given))  # nobody holds them


def test_a_trial_that_another_holds_is_waited_for_while_the_others_run(
    tmp_path: Path, blocks: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [trial(seed) for seed in range(3)]
    (first,), folder = fit_many(given[:1]).results, folder_of(given[0], tmp_path)
    monkeypatch.setattr(MODULE._Team, "_wait", lambda team, seconds: publish())
    with locked(checkpoint_of(folder)):

        def publish() -> None:
            if not folder.exists():
                assert len(list(tmp_path.glob("trial-*/summary.json"))) == 2
                keep_result(first, folder)

        ended = fit_many(given, folder=tmp_path)
    assert_same(ended, fit_many(given))
    assert ended.results[0].result.seconds == first.result.seconds
    assert blocks.launches


def test_a_launch_that_fails_ends_its_own_runs_and_stops_the_others(tmp_path: Path, blocks: Blocks) -> None:
    def second_fails(launches: int) -> None:
        if launches == 1:
            blocks.before_launch = lambda launches: None
            raise MemoryError("no room")

    blocks.before_launch = second_fails
    dtypes = [torch.float32, torch.float64]
    given = [trial(place, dtype=dtype, steps=10**9, every=10**9) for place, dtype in enumerate(dtypes)]
    with pytest.raises(TrialError, match=r"^trials\[1\] .* failed: MemoryError: no room"):
        fit_many(given, folder=tmp_path)
    first, second = (checkpoint_of(folder_of(one, tmp_path)) for one in given)
    assert any(first.glob("version-*"))  # stopped, and to be resumed
    assert not any(second.glob("version-*"))


@pytest.mark.usefixtures("blocks")
def test_a_mistake_on_a_gpu_is_raised_and_stops_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def mistake(courses: GpuCourses) -> None:
        raise LookupError("a mistake")

    monkeypatch.setattr(GpuCourses, "make_slice", mistake)
    monkeypatch.setattr(MODULE, "_by_device", lambda trials: ([1], {torch.device("cuda"): [0]}))
    endless = trial(1, steps=10**12, every=10**12, engine="native", max_seconds=1000.0)
    began = time.monotonic()
    with pytest.raises(LookupError, match="a mistake"):
        fit_many([trial(0), endless])
    assert time.monotonic() - began < 600


@pytest.mark.usefixtures("blocks")
def test_ctrl_c_ends_the_wait_for_others_at_once(
    tmp_path: Path, press_ctrl_c: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    given, pauses = trial(0), []
    wait = MODULE._Team._wait

    def interrupted(team: object, seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            press_ctrl_c()
        wait(team, seconds)

    monkeypatch.setattr(MODULE._Team, "_wait", interrupted)
    with locked(checkpoint_of(folder_of(given, tmp_path))):
        ended = fit_many([given], folder=tmp_path)
    assert ended.results == []
    assert len(pauses) == 3
    assert pauses == sorted(set(pauses))  # longer and longer
