"""Launches of runs in blocks of a GPU: what is in one, and how far it goes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from dmf_fast._native import Outcome
from dmf_fast.training import FitOptions, Recording, Trial, fit
from dmf_fast.training.arguments import model_of
from dmf_fast.training.course import Course, Request
from dmf_fast.training.engines import cuda_block
from dmf_fast.training.engines.cuda_block import BlockLaunches, CudaBlockEngine
from dmf_fast.training.lockstep import Fold, fit_folds
from dmf_fast.training.together import GpuCourses
from tests import assertions
from tests.training.block_trials import trial
from tests.training.blocks import Blocks


@pytest.mark.usefixtures("blocks")
def test_folds_in_blocks_are_runs_of_their_own() -> None:
    def folds() -> list[Fold]:
        trials = [trial(seed, every=10) for seed in range(2)]
        return [Fold(model_of([w.clone() for w in one.factors]), one.train, one.spec) for one in trials]

    side_by_side, apart = folds(), folds()
    options = FitOptions(steps=30, engine="cuda_block")
    result = fit_folds(side_by_side, options, recording=Recording(every=10))
    own = [fit(one.model, one.train, one.optimizer, options, recording=Recording(every=10)) for one in apart]
    losses = [sum(two) / 2 for two in zip(*(one.history["train_loss"] for one in own), strict=True)]
    assert result.history["train_loss"] == losses
    for one, other in zip(side_by_side, apart, strict=True):
        assertions.assert_equal(list(one.model.factors), list(other.model.factors))


@pytest.mark.parametrize("checkpoint_every", [None, 7])
def test_a_run_alone_resumes_bit_identically(
    checkpoint_every: int | None, tmp_path: Path, blocks: Blocks
) -> None:
    one = trial(0)

    def run(steps: int, **given: Any) -> Any:
        factors = [factor.clone() for factor in one.factors]
        every = checkpoint_every if given else None
        options = FitOptions(steps=steps, engine="cuda_block", checkpoint_every=every)
        return factors, fit(factors, one.train, one.optimizer, options, recording=one.recording, **given)

    run(33, checkpoint=tmp_path)
    began = len(blocks.launches)
    resumed = run(60, checkpoint=tmp_path, resume=True)
    assert blocks.launches[began][0][1] > 0
    assertions.assert_same(resumed, run(60))


def engines_of(*trials: Trial) -> list[CudaBlockEngine]:
    return [CudaBlockEngine(model_of(one.factors), one.train, one.spec, one.options) for one in trials]


def test_a_launch_begins_with_the_longest(blocks: Blocks) -> None:
    engines = engines_of(trial(0, depth=2), trial(1, depth=4), trial(2, depth=3))
    for first, second, third, until in ((1, 2, 0, [9, 9, 9]), (0, 2, 1, [20, 10, 12])):
        launches = BlockLaunches()
        time.sleep(0.01)  # as long as the launch may take then, although one run could have its row before
        launches.launch(list(zip(engines, until, strict=True)), most_seconds=60.0)
        order = [memory for memory, *_ in blocks.launches[-1]]
        assert order == [engines[place].memory.data_ptr() for place in (first, second, third)]
        assert [engine.step for engine in engines] == until


class Clock:
    """Time that passes only in launches, by the run in each that takes longest, and where it is added to.

    Attributes:
        seconds: of each launch.
        between: added up, of what goes on between launches.

    """

    def __init__(self, blocks: Blocks, seconds_a_step: dict[CudaBlockEngine, float]) -> None:
        self.seconds: list[float] = []
        self.between = 0.0
        self._blocks = blocks
        self._seconds_a_step = {one.memory.data_ptr(): seconds for one, seconds in seconds_a_step.items()}

    def perf_counter(self) -> float:
        if len(self._blocks.launches) > len(self.seconds):
            launch = self._blocks.launches[-1]
            self.seconds.append(
                max((end - start + 1) * self._seconds_a_step[run] for run, start, end in launch)
            )
        return sum(self.seconds) + self.between


def test_a_launch_takes_half_of_the_time_or_until_a_run_needs_its_row(
    blocks: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, long = engines_of(trial(0, depth=2), trial(1, depth=4))
    assert long.cycles > 1.5 * short.cycles
    rate = 2e3 * long.cycles  # 2,000 steps a second
    clock = Clock(blocks, {one: one.cycles / rate for one in (short, long)})
    monkeypatch.setattr(cuda_block, "_FIRST_CYCLES_A_SECOND", rate / 10)
    monkeypatch.setattr(time, "perf_counter", clock.perf_counter)
    launches = BlockLaunches()
    for _ in range(4):
        launches.launch([(short, 10**6), (long, 10**6)], most_seconds=0.1)
    assert clock.seconds[0] < 0.01
    assert clock.seconds[2:] == pytest.approx([0.05, 0.05], rel=0.05)
    assert short.step * short.cycles == pytest.approx(long.step * long.cycles, rel=0.05)
    # The first row is wanted after a tenth of that: the other goes as far in this time.
    launches.launch([(short, 10**6), (long, long.step + 10)], most_seconds=0.1)
    assert clock.seconds[-1] == pytest.approx(0.005, rel=0.2)
    # At once: others need not wait, but a launch takes no less time than what went on before it.
    step, clock.between = short.step, clock.between + 0.002
    outcomes = launches.launch([(short, 10**6), (long, long.step)], most_seconds=0.1)
    assert short.step - step == pytest.approx(2e-3 * rate / short.cycles, abs=2)
    assert outcomes == [Outcome.paused, Outcome.reached]


def test_every_dtype_has_launches_and_a_speed_of_its_own(
    blocks: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtypes = [torch.float32, torch.float64]
    engines = engines_of(*(trial(place, dtype=dtypes[place % 2], steps=10**6) for place in range(4)))
    clock = Clock(blocks, {one: (5e-4, 5e-3)[place % 2] for place, one in enumerate(engines)})
    monkeypatch.setattr(cuda_block, "_FIRST_CYCLES_A_SECOND", 1e2 * engines[0].cycles)
    monkeypatch.setattr(time, "perf_counter", clock.perf_counter)

    def asking(engine: CudaBlockEngine) -> Course[bool]:
        while True:
            yield Request(engine, 10**6)

    with ThreadPoolExecutor() as helpers:
        courses = GpuCourses(4, None, helpers)
        for engine in engines:
            courses.begin(asking(engine))
        for _ in range(6):
            courses.make_slice()
    assert {len(launch) for launch in blocks.launches} == {2}
    assert clock.seconds[6:] == pytest.approx([0.05] * 6, rel=0.25)  # a step more than asked for
