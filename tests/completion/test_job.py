"""What the runs of a job share: devices, units, seeds, time, and how closely the best step has fitted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
import torch

from dmf_fast import Observations
from dmf_fast.completion import CompletionOptions, complete_matrix
from dmf_fast.completion.job import Job, _loss_ratio, device_of
from dmf_fast.completion.phases import begin
from dmf_fast.completion.starts import Phase
from dmf_fast.training import FitOptions, FitResult, History, Progress
from tests.completion.ratings import ratings

CPU = torch.device("cpu")
OPTIONS = CompletionOptions(depth=2, hidden=4, seed=7)


@pytest.mark.parametrize(
    ("losses", "best_step", "ratio"),
    [
        ([8.0, 4.0, 2.0], None, 0.25),
        ([8.0, 4.0, 2.0], 5, 0.5),
        ([8.0, 4.0, 2.0], 0, 1.0),
        ([0.0, 4.0, 2.0], None, 1.0),
        ([8.0, 4.0, None], None, 1.0),
    ],
)
def test_the_loss_of_the_state_that_counts_is_compared_with_the_first(
    losses: list[float | None], best_step: int | None, ratio: float
) -> None:
    history = History(pa.table({"step": [0, 5, 9], "train_loss": losses}))
    assert _loss_ratio(FitResult(history, best_step, "steps", 9, 0.0, "native")) == ratio


def test_a_device_is_the_one_that_is_named_and_else_where_the_entries_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dmf_fast.cuda.missing_reason", lambda: None)
    monkeypatch.setattr("dmf_fast.cuda.check_usable", lambda device: None)
    for usable, expected in ((True, torch.device("cuda")), (False, CPU)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda usable=usable: usable)
        assert device_of("auto", CPU) == expected
    assert device_of("cuda:1") == torch.device("cuda:1")
    monkeypatch.setattr("dmf_fast.cuda.missing_reason", lambda: "it is not built")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("auto", CPU) == CPU
    with pytest.raises(ValueError, match="`device` must be one of auto, cpu, cuda, got 'tpu'"):
        device_of("tpu:0")


def job(observed: Observations, options: CompletionOptions = OPTIONS, **changes: Any) -> Job:
    given: dict[str, Any] = {
        "test": None,
        "truth": None,
        "callbacks": (),
        "checkpoint": None,
        "resume": False,
    }
    return Job.of(observed, options, **given | changes)


def test_test_entries_truth_and_thresholds_are_in_the_unit_of_the_job() -> None:
    observed = Observations([0, 1], [0, 1], [2.0**40, 2.0**39], dtype=torch.float64)
    options = replace(OPTIONS, fit=FitOptions(train_loss_threshold=2.0**80, seed=None))
    found = job(observed, options, test=observed, truth=observed.values.diag())
    assert found.unit == 2.0**40
    assert found.test is not None
    assert found.test.values.tolist() == [1.0, 0.5]
    assert found.truth is not None
    assert found.truth.diagonal().tolist() == [1.0, 0.5]
    assert (found.fit_options.train_loss_threshold, found.fit_options.seed) == (1.0, 7)
    assert job(observed, replace(options, fit=FitOptions(seed=3))).fit_options.seed == 3


PLAIN = replace(OPTIONS, coordinates="plain", optimizer="sgd", lr=0.1)


@pytest.mark.parametrize(("largest", "refused"), [(1e14, False), (1e16, True), (1e-14, False), (1e-16, True)])
def test_plain_coordinates_take_values_as_they_are_or_refuse_them(largest: float, refused: bool) -> None:
    observed = Observations([0, 1], [0, 1], [largest, 0.0])
    if refused:
        with pytest.raises(ValueError, match="must hold values whose squares fit float32"):
            job(observed, PLAIN)
        observed = observed.to(dtype=torch.float64)
    assert job(observed, PLAIN).unit == 1.0


def test_the_time_of_a_job_is_shared_by_its_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 10 seconds, the second phase has what the first one has left; the refit has all again."""
    clock, given = iter((100.0, 100.0, 107.0, 115.0, 120.0, 120.0)), []
    monkeypatch.setattr("dmf_fast.completion.job.time.perf_counter", lambda: next(clock))
    monkeypatch.setattr(
        "dmf_fast.completion.job.fit_folds",
        lambda folds, options, **_: (
            given.append(options.max_seconds)
            or FitResult(
                History(pa.table({"step": [0], "train_loss": [1.0]})), None, "steps", 4, 0.0, "native"
            )
        ),
    )
    found = job(ratings())
    (part,) = found.prepared([(ratings(), None)])
    starts = [begin(Phase(2, "spectral"), part, OPTIONS)]
    found.begin()
    for _ in range(3):
        found.run("search", starts, [part], FitOptions(max_seconds=10.0))
    assert (given, found.steps_before) == ([10.0, 3.0, 0.0], 12)
    found.begin()
    found.run("refit", starts, [part], FitOptions(max_seconds=10.0))
    assert (given[-1], found.steps_before) == (10.0, 4)


def test_callbacks_count_the_refit_from_zero() -> None:
    seen: list[list[int]] = [[]]

    def note(progress: Progress) -> None:
        if seen[-1] and progress.step == 0:
            seen.append([])
        seen[-1].append(progress.step)

    fit = FitOptions(steps=6)
    completed = complete_matrix(ratings(), replace(OPTIONS, depth=3, fit=fit), callbacks=[note])
    search, refit = seen
    assert len(completed.search) > 1
    assert search[-1] == completed.steps
    assert refit[-1] == completed.refit_steps
