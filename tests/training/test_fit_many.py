"""`fit_many`: concurrent trials equal the trials alone, and nothing is computed twice."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from dmf_fast import Observations
from dmf_fast.initialization import initialize
from dmf_fast.optim import GroupRMSprop
from dmf_fast.training import FitOptions, Recording, Trial, TrialError, Trials, fit, fit_many
from dmf_fast.training import run as run_module
from tests import assertions
from tests.killing import assert_runs

SHAPE = (12, 9)


@pytest.fixture(autouse=True)
def keep_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == threads


def observations() -> tuple[Observations, Observations]:
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.ones(SHAPE).nonzero(as_tuple=True)
    values = torch.randn(len(rows), generator=generator)
    return Observations(rows, columns, values, SHAPE).split(0.3, seed=0)


def trials(steps: int = 300, *, lr: float = 0.05) -> list[Trial]:
    train, validation = observations()
    return [
        Trial(
            {"depth": depth, "seed": seed},
            initialize("gaussian", (9, *[8] * (depth - 1), 12), 0.3, seed=seed),
            train,
            partial(torch.optim.SGD, lr=lr) if depth < 3 else partial(GroupRMSprop, lr=lr / 10),
            FitOptions(steps=steps),
            Recording(every=100, singular_values=2, spectrum=True),
            validation=validation,
        )
        for depth in (1, 2, 3, 4)
        for seed in (0, 1)
    ]


def assert_same(one: Trials, other: Trials) -> None:
    for first, second in zip(one.results, other.results, strict=True):
        assertions.assert_same((first.factors, first.result), (second.factors, second.result))


def test_every_trial_is_bit_identical_to_the_run_alone_for_any_number_of_workers() -> None:
    many = fit_many(trials(), workers=3)
    assert_same(many, fit_many(trials(), workers=1))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for one in many.results:
        alone, trial = [factor.clone() for factor in one.trial.factors], one.trial
        fit(
            alone,
            trial.train,
            trial.optimizer,
            trial.options,
            recording=trial.recording,
            validation=trial.validation,
        )
        assert all(map(torch.equal, alone, one.factors))
    torch.set_num_threads(threads)


def test_starts_are_left_as_they_are() -> None:
    given = trials()
    before = [[factor.clone() for factor in trial.factors] for trial in given]
    fit_many(given)
    for trial, factors in zip(given, before, strict=True):
        assert all(map(torch.equal, trial.factors, factors))


def test_a_trial_that_diverges_is_reported_and_the_others_continue() -> None:
    good, bad = trials()[2:4], trials(lr=1e6)[4:5]
    bad = [Trial({"bad": 1}, bad[0].factors, bad[0].train, partial(torch.optim.SGD, lr=1e6), bad[0].options)]
    ended = fit_many([good[0], *bad, good[1]]).results
    assert [one.result.stopped_because for one in ended] == ["steps", "diverged", "steps"]


class Noisy(torch.optim.SGD):
    """Draws from torch's generator."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(1e-3 * torch.randn(parameter.shape))


def test_what_a_trial_draws_does_not_depend_on_the_seeds_of_others() -> None:
    first, second = (
        replace(one, optimizer=partial(Noisy, lr=0.05), options=FitOptions(5, seed=seed))
        for seed, one in zip((5, None), trials()[:2], strict=True)
    )
    torch.manual_seed(1)
    alone = fit_many([second]).results[0]
    torch.manual_seed(1)
    among_others = fit_many([first, second], workers=1).results[1]
    assert all(map(torch.equal, alone.factors, among_others.factors))


def test_tables_have_the_labels_and_one_row_a_record_or_trial() -> None:
    many = fit_many(trials())
    history, summary = many.history(), many.summary()
    assert history.column_names[:4] == ["depth", "seed", "step", "seconds"]
    assert history["step"].to_pylist() == [0, 100, 200, 300] * 8
    assert summary["depth"].to_pylist() == [1, 1, 2, 2, 3, 3, 4, 4]
    last = history.filter(pa.array([step == 300 for step in history["step"].to_pylist()]))
    assert summary["train_loss"].to_pylist() == last["train_loss"].to_pylist()


def test_trials_that_have_ended_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fit_many(trials()[:5], folder=tmp_path)
    done: list[int] = []
    train_until_done = run_module.Run.train_until_done

    def counted(run: run_module.Run) -> object:
        done.append(1)
        return train_until_done(run)

    monkeypatch.setattr(run_module.Run, "train_until_done", counted)
    again = fit_many(trials(), folder=tmp_path)
    assert len(done) == 3
    assert_same(again, fit_many(trials()))
    assert_same(Trials(again.results[:5]), first)


def test_another_start_or_optimizer_is_another_trial(tmp_path: Path) -> None:
    fit_many(trials()[2:3], folder=tmp_path)
    changed = fit_many(trials(lr=0.04)[2:3], folder=tmp_path)
    assert_same(changed, fit_many(trials(lr=0.04)[2:3]))


KILLED = """
from pathlib import Path
import torch
torch.set_num_threads(1)
from dmf_fast.training import course, fit_many, run as run_module
from tests.killing import kill_again_and_again
from tests.training.test_fit_many import trials
run_module._SECONDS_A_CHECKPOINT, run_module._TIMES_A_SAVE, course.SECONDS_A_SLICE = 0.01, 0.0, 0.005
given, folder = trials(60_000), Path({folder!r})
def has_begun():
    return any(folder.glob("*/version-*")) or any(folder.glob("*/summary.json"))

kill_again_and_again(lambda: fit_many(given, folder=folder, workers=2), has_begun)
"""


def test_killed_at_random_instants_it_resumes_bit_identically(tmp_path: Path) -> None:
    assert_runs(KILLED.format(folder=str(tmp_path)))
    given = trials(60_000)
    assert_same(fit_many(given, folder=tmp_path), fit_many(given))


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_returns_what_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = trials()
    row = run_module.Run._record

    def interrupting(run: run_module.Run, reason: object) -> object:
        if run.engine.step == 0 and len(run.engine.model().factors) == 3:
            signal.raise_signal(signal.SIGINT)
        return row(run, reason)  # type: ignore[arg-type]

    monkeypatch.setattr(run_module.Run, "_record", interrupting)
    ended = fit_many(given, folder=tmp_path, workers=1)
    assert 0 < len(ended.results) < len(given)
    monkeypatch.undo()
    assert_same(fit_many(given, folder=tmp_path), fit_many(given))


def test_bad_trials_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"`trials` must have distinct labels, got .* in both trials\[0\] and trials\[1\]"
    ):
        fit_many([trials()[0], trials()[0]])
    wrong = trials()[:2]
    wrong[1] = Trial({"x": 1}, [torch.ones(3, 9)], wrong[1].train, wrong[1].optimizer)
    with pytest.raises(ValueError, match=r"`trials\[1\]`: .*shape"):
        fit_many(wrong)
    with pytest.raises(ValueError, match="`workers` must be at least 1"):
        fit_many(trials(), workers=0)


def test_trials_of_every_engine_run_together() -> None:
    train = observations()[0]
    makes: dict[str, Any] = {
        "native": torch.optim.SGD,
        "torch": torch.optim.AdamW,
        "cuda_graph": torch.optim.Adam,
    }
    given = [
        Trial({"place": place}, initialize("gaussian", (9, 5, 12), 0.3, seed=1), train, optimizer,
              FitOptions(steps=30, engine=engine))  # type: ignore[arg-type]
        for place, (engine, optimizer) in enumerate(makes.items())
    ]  # fmt: skip
    ended = fit_many(given, workers=3)
    assert [one.result.engine for one in ended.results] == list(makes)
    assert_same(fit_many(given, workers=1), ended)
    assert ended.summary()["optimizer"].to_pylist() == ["SGD", "AdamW", "Adam"]


def test_an_engine_that_cannot_make_the_steps_fails_its_trial() -> None:
    factors = initialize("gaussian", (9, 5, 12), 0.3, seed=1)
    options = FitOptions(steps=3, engine="native")
    with pytest.raises(TrialError, match=r"trials\[0\] .* AdamW has no native step"):
        fit_many([Trial({}, factors, observations()[0], torch.optim.AdamW, options)])


def test_no_trials_give_empty_tables() -> None:
    assert fit_many([]).history().num_rows == 0
    assert fit_many([]).summary().num_rows == 0
