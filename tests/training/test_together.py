"""Runs in blocks of a GPU advance together, one launch per slice, and each equals the run alone."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dmf_fast.training import Trial, course, fit, fit_many
from dmf_fast.training import run as run_module
from dmf_fast.training.engines.native import NativeEngine
from dmf_fast.training.engines.torch import TorchEngine
from dmf_fast.training.trial_files import folder_of
from tests import assertions
from tests.training.block_trials import trial
from tests.training.blocks import Blocks
from tests.training.test_fit_many import assert_same

MODULE = sys.modules[fit_many.__module__]


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
def test_a_run_that_diverges_is_reported_and_the_others_continue() -> None:
    given = [trial(0), trial(1, optimizer=partial(torch.optim.SGD, lr=1e6)), trial(2)]
    ended = fit_many(given).results
    assert [one.result.stopped_because for one in ended] == ["steps", "diverged", "steps"]


def test_a_run_in_a_block_is_that_of_the_cpu_but_for_rounding(blocks: Blocks) -> None:
    runs = [trial(0, depth=3, dtype=torch.float64, engine=engine) for engine in ("cuda_block", "native")]
    (ours,), (theirs,) = (fit_many([run]).results for run in runs)
    assert (ours.result.engine, theirs.result.engine) == ("cuda_block", "native")
    assertions.assert_close(ours.factors, theirs.factors, 1e-10)
    losses = [one.result.history["train_loss"] for one in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)
    assert blocks.launches


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


def test_trials_are_grouped_by_device() -> None:
    devices = ["cpu", "cuda:1", "cuda:0", "cpu", "cuda:1"]
    trials: Any = [SimpleNamespace(train=SimpleNamespace(device=torch.device(one))) for one in devices]
    gpus = {torch.device("cuda:1"): [1, 4], torch.device("cuda:0"): [2]}
    assert MODULE._by_device(trials) == ([0, 3], gpus)


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


@pytest.mark.usefixtures("blocks")
def test_trials_of_every_engine_run_together_on_a_gpu() -> None:
    engines = ["cuda_block", "cuda_graph", "native", "cuda_block", "torch"]
    given = [trial(seed, engine=engine) for seed, engine in enumerate(engines)]
    ended = fit_many(given, workers=2)
    assert [one.result.engine for one in ended.results] == engines
    assert_same(fit_many(given, workers=5), ended)


def test_runs_in_blocks_continue_while_a_run_of_another_engine_lets_none_begin(
    blocks: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    run = TorchEngine.run

    def noted(engine: TorchEngine, until: int, *, most_seconds: float) -> Any:
        made.append("torch")
        return run(engine, until, most_seconds=most_seconds)

    monkeypatch.setattr(TorchEngine, "run", noted)
    monkeypatch.setattr(course, "SECONDS_A_SLICE", 0.0)  # a step a slice
    blocks.before_launch = lambda launches: made.append("block")
    engines = ["cuda_block", "torch", "torch", "cuda_block"]
    fit_many([trial(place, steps=20 + place, every=10**9, engine=one) for place, one in enumerate(engines)])
    assert made[:40] == ["block", "torch"] * 20
    assert max(map(len, blocks.launches)) == 1  # the last begins when the others have ended
    assert made[-20:] == ["block"] * 20


def test_courses_run_at_the_same_time_with_one_torch_thread_each(
    tmp_path: Path, blocks: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_there, threads = threading.Barrier(3, timeout=600), []
    save = run_module.save_checkpoint

    def saved(*given: Any) -> None:
        all_there.wait()
        threads.append(torch.get_num_threads())
        save(*given)

    monkeypatch.setattr(run_module, "save_checkpoint", saved)
    fit_many([trial(seed) for seed in range(3)], folder=tmp_path)
    assert threads == [1, 1, 1]
    assert blocks.launches


def test_a_gpus_work_is_on_the_stream_that_the_caller_uses(
    blocks: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, used = threading.local(), []

    @contextmanager
    def stream(it: Any) -> Iterator[None]:
        before, here.stream = getattr(here, "stream", None), it
        yield
        here.stream = before

    def noting(function: Any) -> Any:
        def noted(*given: Any, **more: Any) -> Any:
            used.append(getattr(here, "stream", None))
            return function(*given, **more)

        return noted

    monkeypatch.setattr(torch.cuda, "current_stream", lambda gpu: f"the caller's on {gpu}")
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(MODULE, "make_run", noting(MODULE.make_run))
    for name in ("_record", "_save"):
        monkeypatch.setattr(run_module.Run, name, noting(getattr(run_module.Run, name)))
    monkeypatch.setattr(TorchEngine, "run", noting(TorchEngine.run))
    blocks.before_launch = noting(lambda launches: None)
    fit_many([trial(0), trial(1), trial(2, engine="torch")])
    assert set(used) == {"the caller's on cuda"}


def test_as_many_trials_as_workers_run_on_the_cpu_even_when_a_gpu_is_done(
    blocks: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, most = [], []
    run = NativeEngine.run

    def noted(engine: NativeEngine, until: int, *, most_seconds: float) -> Any:
        under_way.append(engine)
        time.sleep(0.02)  # in which another would begin
        most.append(len(under_way))
        under_way.remove(engine)
        return run(engine, until, most_seconds=most_seconds)

    monkeypatch.setattr(NativeEngine, "run", noted)
    shares = {torch.device("cuda"): [0]}
    monkeypatch.setattr(MODULE, "_by_device", lambda trials: ([1, 2, 3, 4], shares))
    given = [trial(place, steps=9, every=3, engine="native" if place else "cuda_block") for place in range(5)]
    fit_many(given, workers=1)
    assert max(most) == 1
    assert blocks.launches
