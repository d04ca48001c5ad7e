"""Runs in blocks of a GPU advance together, in one launch a slice, and are each the run alone."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dmf_fast._native import Outcome
from dmf_fast.files.lock import locked
from dmf_fast.initialization import initialize
from dmf_fast.optim import GroupRMSprop
from dmf_fast.training import FitOptions, Recording, Trial, TrialError, fit, fit_many, together
from dmf_fast.training.arguments import model_of
from dmf_fast.training.engines import cuda_block
from dmf_fast.training.engines.cuda_block import BlockLaunches, CudaBlockEngine
from dmf_fast.training.lockstep import Fold, fit_folds
from dmf_fast.training.trial_files import checkpoint_of, folder_of, keep_result
from tests import assertions
from tests.training.blocks import Blocks, blocks_on_cpu
from tests.training.test_fit_many import assert_same, observations

MODULE = sys.modules[fit_many.__module__]


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Blocks]:
    """A GPU that makes runs in blocks, on the CPU."""

    def all_on_gpu(trials: list[Trial]) -> tuple[list[int], dict[torch.device, list[int]]]:
        return [], {torch.device("cuda"): list(range(len(trials)))}

    monkeypatch.setattr(MODULE, "_by_device", all_on_gpu)
    monkeypatch.setattr(MODULE, "_multiprocessors", lambda gpu: 132)
    with blocks_on_cpu() as blocks:
        yield blocks


def trial(seed: int, *, depth: int = 2, steps: int = 40, every: int = 20, **given: Any) -> Trial:
    train, validation = observations()
    dtype, engine = given.pop("dtype", torch.float32), given.pop("engine", "cuda_block")
    return Trial(
        {"seed": seed},
        initialize("gaussian", (9, *[8] * (depth - 1), 12), 0.3, seed=seed, dtype=dtype),
        train.to(dtype=dtype),
        given.pop("optimizer", partial(GroupRMSprop, lr=0.005)),
        FitOptions(steps=steps, engine=engine, seed=given.pop("draws", None), **given),
        Recording(every=every),
        validation=validation.to(dtype=dtype),
    )


def assert_alone(trials: list[Trial]) -> None:
    """Fail where a trial among the others is not the run alone."""
    for one in fit_many(trials).results:
        alone = [factor.clone() for factor in one.trial.factors]
        result = fit(
            alone,
            one.trial.train,
            one.trial.optimizer,
            one.trial.options,
            recording=one.trial.recording,
            validation=one.trial.validation,
        )
        assertions.assert_same((alone, result), (one.factors, one.result))


@pytest.mark.usefixtures("blocks")
def test_runs_of_every_kind_are_each_the_run_alone() -> None:
    assert_alone(
        [
            trial(0),
            trial(1, depth=3, every=7, optimizer=partial(torch.optim.Adam, lr=0.01)),
            trial(2, depth=4, steps=33, optimizer=partial(torch.optim.SGD, lr=0.05, momentum=0.9)),
            trial(3, dtype=torch.float64, patience=1),
            trial(4, train_loss_threshold=1.1),
        ]
    )


@pytest.mark.usefixtures("blocks")
def test_a_run_that_diverges_says_so_and_the_others_go_on() -> None:
    given = [trial(0), trial(1, optimizer=partial(torch.optim.SGD, lr=1e6)), trial(2)]
    ended = fit_many(given).results
    assert [one.result.stopped_because for one in ended] == ["steps", "diverged", "steps"]


def test_a_run_in_a_block_is_that_of_the_cpu_but_for_rounding(blocks: Blocks) -> None:
    runs = [trial(0, depth=3, dtype=torch.float64, engine=engine) for engine in ("cuda_block", "native")]
    (ours,), (theirs,) = (fit_many([run]).results for run in runs)
    assert (ours.result.engine, theirs.result.engine) == ("cuda_block", "native")
    assertions.assert_close(ours.factors, theirs.factors, 1e-10)
    losses = [one.result.history["train_loss"].to_pylist() for one in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)
    assert blocks.launches


def test_a_launch_has_one_dtype(blocks: Blocks) -> None:
    ended = fit_many([trial(seed, dtype=[torch.float32, torch.float64][seed % 2]) for seed in range(4)])
    assert len(ended.results) == 4
    assert {len(launch) for launch in blocks.launches} == {2}


@pytest.mark.parametrize(("workers", "most"), [(1, 1), (2, 2), (None, 3)])
def test_so_many_runs_as_workers_are_under_way_and_the_next_begins_where_one_ends(
    workers: int | None, most: int, blocks: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "_multiprocessors", lambda gpu: 3)
    given = [trial(seed, steps=10 + 20 * seed) for seed in range(5)]
    ended = fit_many(given, workers=workers)
    assert max(map(len, blocks.launches)) == most
    assert [one.result.steps for one in ended.results] == [10, 30, 50, 70, 90]
    assert_same(fit_many(given, workers=4), ended)


def test_every_gpu_has_launches_of_its_own(blocks: Blocks, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [trial(seed) for seed in range(5)]
    whole = fit_many(given)
    shares = {torch.device("cuda:0"): [0, 2, 4], torch.device("cuda:1"): [1, 3]}
    monkeypatch.setattr(MODULE, "_by_device", lambda trials: ([], shares))
    blocks.launches.clear()
    assert_same(fit_many(given), whole)
    assert {len(launch) for launch in blocks.launches} == {2, 3}


def test_a_gpu_has_a_run_a_multiprocessor(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert MODULE._multiprocessors(torch.device("cuda:0")) == 132


def test_trials_are_told_apart_by_their_devices() -> None:
    devices = ["cpu", "cuda:1", "cuda:0", "cpu", "cuda:1"]
    trials: Any = [SimpleNamespace(train=SimpleNamespace(device=torch.device(one))) for one in devices]
    gpus = {torch.device("cuda:1"): [1, 4], torch.device("cuda:0"): [2]}
    assert MODULE._by_device(trials) == ([0, 3], gpus)


@pytest.mark.usefixtures("blocks")
def test_trials_of_other_engines_run_by_themselves() -> None:
    engines = ["cuda_block", "cuda_graph", "native", "cuda_block", "torch"]
    given = [trial(seed, engine=engine) for seed, engine in enumerate(engines)]
    ended = fit_many(given, workers=2)
    assert [one.result.engine for one in ended.results] == engines
    assert_same(fit_many(given, workers=5), ended)


@pytest.mark.usefixtures("blocks")
def test_runs_with_seeds_leave_torchs_generator_as_it_was() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    fit_many([trial(place, draws=place, steps=10 + place) for place in range(3)])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("blocks")
def test_trials_that_have_ended_are_not_repeated(tmp_path: Path, blocks: Blocks) -> None:
    given = [trial(seed) for seed in range(4)]
    fit_many(given[:2], folder=tmp_path)
    launches = len(blocks.launches)
    ended = fit_many(given, folder=tmp_path)
    assert all(len(launch) == 2 for launch in blocks.launches[launches:])
    assert_same(ended, fit_many(given))
    assert {path.name for path in tmp_path.iterdir()} == {folder_of(one, tmp_path).name for one in given}


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_keeps_what_there_is_and_the_same_call_goes_on(
    tmp_path: Path, blocks: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [trial(0, steps=5), trial(1, steps=200), trial(2, steps=200, depth=3)]
    whole = fit_many(given)
    began = len(blocks.launches)

    def interrupt(launches: int) -> None:
        if launches == began + 30:
            os.kill(os.getpid(), signal.SIGINT)

    blocks.before_launch = interrupt
    with monkeypatch.context() as patch:
        patch.setattr(together, "SECONDS_A_SLICE", 0.0)  # a step a launch
        ended = fit_many(given, folder=tmp_path)
    assert [one.trial.labels["seed"] for one in ended.results] == [0]
    assert len(blocks.launches) < began + 100
    blocks.before_launch, began = lambda launches: None, len(blocks.launches)
    assert_same(fit_many(given, folder=tmp_path), whole)
    assert min(start for _, start, _ in blocks.launches[began]) > 0


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


@pytest.mark.usefixtures("blocks")
def test_folds_in_blocks_are_runs_of_their_own() -> None:
    def folds() -> list[Fold]:
        trials = [trial(seed, every=10) for seed in range(2)]
        return [Fold(model_of([w.clone() for w in one.factors]), one.train, one.spec) for one in trials]

    side_by_side, apart = folds(), folds()
    options = FitOptions(steps=30, engine="cuda_block")
    result = fit_folds(side_by_side, options, recording=Recording(every=10))
    own = [fit(one.model, one.train, one.optimizer, options, recording=Recording(every=10)) for one in apart]
    losses = [
        sum(two) / 2 for two in zip(*(one.history["train_loss"].to_pylist() for one in own), strict=True)
    ]
    assert result.history["train_loss"].to_pylist() == losses
    for one, other in zip(side_by_side, apart, strict=True):
        assertions.assert_equal(list(one.model.factors), list(other.model.factors))


@pytest.mark.parametrize("checkpoint_every", [None, 7])
def test_a_run_alone_resumes_bit_for_bit(
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
        BlockLaunches().advance(list(zip(engines, until, strict=True)), most_seconds=60.0)
        order = [memory for memory, *_ in blocks.launches[-1]]
        assert order == [engines[place].memory.data_ptr() for place in (first, second, third)]
        assert [engine.step for engine in engines] == until


class Clock:
    """Time that passes only in launches, by the longest run in each, and the seconds of each launch."""

    def __init__(self, blocks: Blocks, cycles_a_second: float, cycles: dict[int, float]) -> None:
        self.seconds: list[float] = []
        self._blocks, self._rate, self._cycles = blocks, cycles_a_second, cycles

    def perf_counter(self) -> float:
        if len(self._blocks.launches) > len(self.seconds):
            launch = self._blocks.launches[-1]
            self.seconds.append(
                max((end - start + 1) * self._cycles[run] for run, start, end in launch) / self._rate
            )
        return sum(self.seconds)


def test_a_launch_takes_half_of_the_time_or_until_a_run_needs_its_row(
    blocks: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, long = engines_of(trial(0, depth=2), trial(1, depth=4))
    assert long.cycles > 1.5 * short.cycles
    cycles = {one.memory.data_ptr(): one.cycles for one in (short, long)}
    rate = 2e3 * long.cycles  # 2,000 steps a second
    clock = Clock(blocks, rate, cycles)
    monkeypatch.setattr(cuda_block, "_FIRST_CYCLES_A_SECOND", rate / 10)
    monkeypatch.setattr(time, "perf_counter", clock.perf_counter)
    launches = BlockLaunches()
    for _ in range(4):
        launches.advance([(short, 10**6), (long, 10**6)], most_seconds=0.1)
    assert clock.seconds[0] < 0.01
    assert clock.seconds[2:] == pytest.approx([0.05, 0.05], rel=0.05)
    assert short.step * short.cycles == pytest.approx(long.step * long.cycles, rel=0.05)
    # The first row is wanted after a tenth of that: the other goes as far in this time.
    launches.advance([(short, 10**6), (long, long.step + 10)], most_seconds=0.1)
    assert clock.seconds[-1] == pytest.approx(0.005, rel=0.2)
    # At once: others need not wait, but a launch is worth its while.
    step = short.step
    launches.advance([(short, 10**6), (long, long.step)], most_seconds=0.1)
    assert short.step - step == pytest.approx(2e-3 * rate / short.cycles, abs=2)
    assert long.outcome(long.step) == Outcome.reached
    assert short.outcome(10**6) == Outcome.paused
