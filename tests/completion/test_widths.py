"""The search for a width: narrow chains follow the path of wide ones, and are abandoned if too narrow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dmf_fast import Observations
from dmf_fast.chain import balancedness, chain_product, relative_distance
from dmf_fast.completion import PAPER, CompletedMatrix, CompletionOptions, complete_matrix
from dmf_fast.completion import widths as module
from dmf_fast.completion.job import Job
from dmf_fast.completion.spectral import spectral_factors
from dmf_fast.completion.widths import tail_share
from dmf_fast.experiments import LowRankProblem, low_rank_problem
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.training import FitOptions, Progress

RANK, SIZE = 2, 40
OPTIONS = PAPER.changed({"lr": 1e-2, "steps": 8_000, "train_loss_threshold": 1e-6})


def problem() -> LowRankProblem:
    return low_rank_problem(SIZE, SIZE, RANK, 600, seed=0)


def completed(**changes: Any) -> CompletedMatrix:
    given = problem()
    return complete_matrix(given.train, replace(OPTIONS, **changes), test=given.test, truth=given.truth)


@pytest.fixture(scope="module")
def found() -> CompletedMatrix:
    return completed(hidden="auto")


@pytest.mark.parametrize(("width", "depth"), [(1, 1), (1, 2), (3, 2), (3, 4), (5, 3)])
def test_a_spectral_start_has_the_leading_singular_vectors_of_the_values_at_one_size(
    width: int, depth: int
) -> None:
    train = problem().train.to(dtype=torch.float64)
    factors = spectral_factors(train, width, depth, 0.01, mean=0.25)

    filled = np.zeros(train.shape)
    rows, columns = (index.numpy() for index in train.coordinates())
    filled[rows, columns] = train.values.numpy() - 0.25
    left, _, right = np.linalg.svd(filled)
    expected = 0.01 * left[:, :width] @ right[:width]
    np.testing.assert_allclose(chain_product(factors).numpy(), expected, atol=2e-4)
    assert torch.linalg.svdvals(chain_product(factors))[:width].numpy() == pytest.approx(0.01, rel=1e-9)
    assert len(factors) == depth
    assert depth == 1 or balancedness(factors) < 1e-12


def test_a_spectral_start_has_the_dtype_of_the_entries_and_is_no_wider_than_the_matrix() -> None:
    train = Observations([0, 1], [0, 1], [3.0, 1.0], (4, 3), dtype=torch.float32)
    factors = spectral_factors(train, 10, 2, 0.01)
    assert [tuple(factor.shape) for factor in factors] == [(3, 3), (4, 3)]
    assert {factor.dtype for factor in factors} == {torch.float32}


def test_a_narrow_chain_that_is_wide_enough_ends_as_the_wide_one(found: CompletedMatrix) -> None:
    wide = completed(hidden=None, initialization="spectral")

    (trial,) = found.widths
    assert trial.width == module.FIRST_WIDTH
    assert found.model.dims == (SIZE, 16, 16, SIZE)
    assert 0 < trial.tail_share <= module.MOST_TAIL_SHARE
    assert relative_distance(list(found.model.factors), list(wide.model.factors)) < 0.01
    assert found.steps == pytest.approx(wide.steps, rel=0.02)
    assert found.reconstruction_mse == pytest.approx(wide.reconstruction_mse, abs=1e-4)


def narrow_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the first width be too small for the rank."""
    monkeypatch.setattr(module, "FIRST_WIDTH", RANK)


def test_a_width_that_is_too_small_is_given_up_early_and_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow_first(monkeypatch)
    found = completed(hidden="auto")

    *given_up, last = found.widths
    assert [trial.width for trial in found.widths] == [2, 4, 8][: len(found.widths)]
    assert given_up
    assert all(trial.tail_share > module.MOST_TAIL_SHARE for trial in given_up)
    assert all(trial.steps < last.steps for trial in given_up)
    assert last.tail_share <= module.MOST_TAIL_SHARE
    assert found.result.stopped_because == "train_loss_threshold"
    assert found.steps == sum(trial.steps for trial in found.widths)
    assert found.seconds == pytest.approx(sum(trial.seconds for trial in found.widths))


def test_the_full_width_is_not_preceded_by_one_of_more_than_half_of_it() -> None:
    assert list(module._widths((100, 200))) == [16, 32, 100]
    assert list(module._widths((128, 200))) == [16, 32, 64, 128]
    assert list(module._widths((9, 200))) == [9]


def test_a_run_that_has_not_left_its_start_says_nothing_of_its_width() -> None:
    found = completed(hidden="auto", fit=FitOptions(steps=10))
    assert [(trial.width, trial.tail_share) for trial in found.widths] == [(module.FIRST_WIDTH, None)]


def test_values_that_are_all_zero_need_no_other_width() -> None:
    entries = Observations([0, 1, 2], [0, 1, 2], [0.0, 0.0, 0.0], (50, 50))
    found = complete_matrix(entries, replace(OPTIONS, hidden="auto", fit=FitOptions(steps=200)))
    assert [trial.width for trial in found.widths] == [module.FIRST_WIDTH]


def test_the_full_width_is_never_too_small() -> None:
    entries = Observations.from_dense(torch.eye(3))
    options = replace(OPTIONS, hidden="auto", fit=FitOptions(steps=300))
    found = complete_matrix(entries, options)
    assert [trial.width for trial in found.widths] == [3]
    assert found.result.stopped_because == "steps"


def test_a_chain_of_one_factor_has_no_width_to_find() -> None:
    found = completed(hidden="auto", depth=1, fit=FitOptions(steps=20))
    assert found.widths == ()
    assert found.model.dims == (SIZE, SIZE)


def test_a_run_that_diverges_ends_as_at_a_given_width() -> None:
    options = replace(OPTIONS, hidden="auto", optimizer="sgd", lr=1e5)
    found = complete_matrix(problem().train, options)
    assert found.diverged
    assert len(found.widths) == 1


def test_a_callback_that_ends_a_run_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow_first(monkeypatch)
    too_small, *_ = completed(hidden="auto").widths
    given = problem()

    def stop(progress: Progress) -> bool:
        return progress.step >= too_small.steps  # in the same row

    found = complete_matrix(given.train, replace(OPTIONS, hidden="auto"), callbacks=[stop])
    assert [(trial.width, trial.steps) for trial in found.widths] == [(RANK, too_small.steps)]


def test_a_time_limit_is_for_all_widths_together(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow_first(monkeypatch)
    clock = iter([0.0, 0.0, 5.0])  # begun, before the first width, before the second
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    found = completed(hidden="auto", fit=replace(OPTIONS.fit, max_seconds=4.0))
    assert [trial.width for trial in found.widths] == [RANK]
    assert found.steps > 0


def watched(
    rows: list[tuple[float, float | None]], share: float, monkeypatch: pytest.MonkeyPatch
) -> list[bool]:
    """Return what a watch says to rows of train losses and validation errors, all states of one share."""
    monkeypatch.setattr(module, "tail_share", lambda values, start: share)
    watch = module.WidthWatch([], 0.0, module.WHOLE, can_give_up=True)
    model = DeepMatrixFactorization((2, 2), 2, seed=0)
    kept = [
        {"step": step, "train_loss": loss, "validation_rmse": rmse} for step, (loss, rmse) in enumerate(rows)
    ]
    return [watch(Progress(step, model, row, kept[: step + 1])) for step, row in enumerate(kept)]


def test_a_state_is_inspected_once_half_the_loss_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched([(1.0, None), (0.6, None), (0.5, None)], 0.02, monkeypatch) == [False, False, True]
    assert watched([(1.0, None), (0.6, None), (0.5, None)], 0.01, monkeypatch) == [False] * 3
    assert watched([(1.0, None), (float("nan"), None)], 0.02, monkeypatch) == [False] * 2


def test_with_validation_only_the_best_rows_count(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[tuple[float, float | None]] = [(1.0, 3.0), (0.4, 4.0), (0.3, 3.5), (0.2, 2.0)]
    assert watched(rows, 0.5, monkeypatch) == [False, False, False, True]


def test_the_job_is_refitted_at_the_width_that_was_found() -> None:
    fit = FitOptions(steps=4_000, patience=20)
    found = completed(hidden="auto", validation_fraction=0.1, refit=True, fit=fit)
    assert found.refit
    assert found.model.dims == (SIZE, found.widths[-1].width, found.widths[-1].width, SIZE)
    assert found.reconstruction_mse is not None
    assert found.reconstruction_mse < 0.01


def test_a_width_that_is_given_up_is_not_refitted(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow_first(monkeypatch)
    refitted: list[int | str | None] = []
    refit = Job.refitted

    def noting(job: Job, *given: Any) -> CompletedMatrix:
        refitted.append(job.options.hidden)
        return refit(job, *given)

    monkeypatch.setattr(Job, "refitted", noting)
    found = completed(
        hidden="auto", validation_fraction=0.1, refit=True, fit=FitOptions(steps=4_000, patience=50)
    )
    assert len(found.widths) > 1
    assert refitted == [found.widths[-1].width]


def test_a_job_that_was_stopped_resumes_through_the_same_widths(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    narrow_first(monkeypatch)
    given, options = problem(), replace(OPTIONS, hidden="auto")
    whole = complete_matrix(given.train, options)

    def stop(progress: Progress) -> bool:
        return progress.model.dims[1] > RANK and progress.step >= 200

    stopped = complete_matrix(given.train, options, callbacks=[stop], checkpoint=tmp_path)
    assert len(stopped.widths) == 2
    resumed = complete_matrix(given.train, options, checkpoint=tmp_path, resume=True)

    assert [(one.width, one.steps) for one in resumed.widths] == [
        (one.width, one.steps) for one in whole.widths
    ]
    for factor, expected in zip(resumed.model.factors, whole.model.factors, strict=True):
        torch.testing.assert_close(factor, expected, rtol=0, atol=0)


def test_the_tail_share_is_what_the_last_half_of_the_width_holds_beyond_the_start() -> None:
    assert tail_share(torch.tensor([4.0, 3.0, 2.0, 1.0])) == pytest.approx(0.3)
    assert tail_share(torch.tensor([4.0, 1.0, 1.0])) == pytest.approx(1 / 3)
    assert tail_share(torch.tensor([4.0, 3.0, 2.0, 1.0]), start=1.0) == pytest.approx(1 / 6, rel=1e-2)
    assert tail_share(torch.zeros(2), start=1.0) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"coordinates": "scaled", "init_scale": None, "lr": None},
            "`hidden` must be .* this job has scaled",
        ),
        ({"initialization": "gaussian"}, "`hidden` must be .* this job has .*, a gaussian initialization"),
        ({"bias": True}, "`hidden` must be .* a spectral initialization and biases; give a width such as 64"),
        ({"depth": "auto"}, "`depth` must be a number"),
    ],
)
def test_what_an_automatic_width_needs_is_said(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        complete_matrix(problem().train, replace(OPTIONS, hidden="auto", **changes))


def test_a_width_must_be_a_number_or_auto() -> None:
    with pytest.raises(ValueError, match="`hidden` must be a whole number or one of auto, got 'wide'"):
        CompletionOptions(hidden="wide")  # type: ignore[arg-type]
