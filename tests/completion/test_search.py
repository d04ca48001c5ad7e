"""What a search tries and chooses: never worse than the biases, deeper only where it pays."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dmf_fast import Observations
from dmf_fast.completion import CompletedMatrix, CompletionOptions, complete_matrix
from dmf_fast.data import read_ratings
from dmf_fast.evaluation import Biases, HeldOut, errors_of
from dmf_fast.training import FitOptions, Progress
from tests.assertions import assert_equal
from tests.completion.ratings import ratings

QUIET = FitOptions(steps=2_000, patience=20, progress=False)


def options(**changes: Any) -> CompletionOptions:
    return CompletionOptions(**{"hidden": 8, "fit": QUIET} | changes)


def noisy() -> Observations:
    """Biases and noise, where factors have nothing to find."""
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(60, 1, generator=generator) + torch.randn(1, 50, generator=generator)
    dense = dense + torch.randn(60, 50, generator=generator)
    places = (torch.rand(60, 50, generator=generator) < 0.3).nonzero(as_tuple=True)
    return Observations(*places, dense[places], dense.shape)


def rmse_of_biases(train: Observations, test: Observations, completed: CompletedMatrix) -> float:
    assert completed.biases is not None
    rmse = errors_of(completed.biases, HeldOut.of(test)).rmse
    assert rmse is not None
    return rmse


@pytest.fixture(scope="module")
def automatic() -> CompletedMatrix:
    """Most tests only read it."""
    train, test = ratings().split(0.1, seed=1)
    return complete_matrix(train, options(), test=test)


def test_the_candidate_of_the_least_validation_error_is_chosen(automatic: CompletedMatrix) -> None:
    errors = [one.validation_rmse for one in automatic.candidates]
    assert [one.name for one in automatic.candidates][:2] == ["biases", "depth 2"]
    assert automatic.validation_rmse == min(error for error in errors if error is not None)
    assert automatic.validation_rmse == automatic.chosen.validation_rmse
    assert automatic.depth == automatic.chosen.depth


def test_every_split_begins_where_the_phase_before_was_best(automatic: CompletedMatrix) -> None:
    phases = [run for run in automatic.search if run.phase.start in ("product",) or run.phase.depth == 2]
    assert len(phases) >= 2
    for before, after in pairwise(phases):
        rows = before.result.history.table.to_pylist()
        best = next(row for row in rows if row["step"] == before.result.best_step)
        first = after.result.history.table.to_pylist()[0]
        assert first["validation_rmse"] == pytest.approx(best["validation_rmse"], rel=1e-4)
        assert first["train_loss"] == pytest.approx(best["train_loss"], rel=1e-4)


def test_the_search_tries_deeper_models_only_as_long_as_it_pays(automatic: CompletedMatrix) -> None:
    deeper = [run for run in automatic.search if run.phase.start == "product"]
    assert [run.phase.depth for run in deeper] == list(range(3, 3 + len(deeper)))
    assert all(run.steps > 0 for run in deeper[:-1])


def test_the_history_counts_steps_through_all_phases(automatic: CompletedMatrix) -> None:
    history = automatic.history
    steps = history["step"]
    assert steps == sorted(steps)
    assert steps[-1] == automatic.steps
    assert history["depth"] == sorted(history["depth"])
    seconds = history["seconds"]
    assert seconds == sorted(seconds)


def test_where_there_is_only_noise_the_biases_are_the_model() -> None:
    train, test = noisy().split(0.2, seed=0)
    completed = complete_matrix(train, options(), test=test)
    assert completed.test_rmse is not None
    assert completed.test_rmse <= rmse_of_biases(train, test, completed) + 1e-3
    if completed.chosen.name == "biases":
        assert not completed.left_start
        assert all(not factor.any() for factor in completed.model.factors)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_a_depth_that_is_given_is_the_depth_of_the_model_or_it_is_the_biases(depth: int) -> None:
    completed = complete_matrix(ratings(), options(depth=depth))
    assert completed.depth == depth
    names = {one.name for one in completed.candidates}
    assert names <= {"biases", f"depth {depth}", f"depth {depth}, spectral start"}


def test_without_validation_entries_depth_2_is_trained() -> None:
    completed = complete_matrix(ratings(), options(validation_fraction=0.0, fit=replace(QUIET, steps=50)))
    assert completed.depth == 2
    assert completed.validation_rmse is None
    assert completed.best_step is None


@pytest.mark.parametrize("changes", [{"coordinates": "plain"}, {"initialization": "gaussian"}])
def test_a_depth_is_not_found_from_other_starts(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"`depth` must be a number if the factors start as 'gaussian'"):
        complete_matrix(ratings(), options(**changes))


@pytest.mark.parametrize("initialization", ["gaussian", "balanced", "orthogonal"])
def test_other_starts_begin_at_the_depth_that_is_given(initialization: Any) -> None:
    train, test = ratings().split(0.1, seed=1)
    completed = complete_matrix(train, options(depth=2, initialization=initialization), test=test)
    assert [run.phase.start for run in completed.search] == [initialization]
    assert completed.test_rmse is not None
    assert completed.test_rmse < 0.45


@pytest.mark.parametrize("decay", [0.0, 0.13])
def test_jobs_are_bit_identical_for_any_number_of_threads(decay: float) -> None:
    models = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        models.append(complete_matrix(ratings(), options(weight_decay=decay)).model)
    assert_equal(list(models[0].parameters()), list(models[1].parameters()))


def test_a_job_that_was_stopped_in_any_phase_resumes_to_the_same_model(tmp_path: Path) -> None:
    job = replace(options(), fit=replace(QUIET, checkpoint_every=2))
    expected = complete_matrix(ratings(), options())
    runs = [*expected.search, *expected.refit]
    assert len(runs) >= 5
    for phase, run in enumerate(runs):
        folder, stopped_at = tmp_path / f"{phase}", (run.result.history.table.num_rows + 1) // 2
        begun, before = -1, None

        def stop(progress: Progress) -> None:
            nonlocal begun, before
            if progress.model is not before:
                begun, before = begun + 1, progress.model
            if begun == phase and len(progress.rows) == stopped_at:  # noqa: B023 (called in this round)
                raise RuntimeError("the machine is switched off")

        with pytest.raises(RuntimeError, match="switched off"):
            complete_matrix(ratings(), job, callbacks=[stop], checkpoint=folder)
        resumed = complete_matrix(ratings(), job, checkpoint=folder, resume=True)
        assert_equal(list(resumed.model.parameters()), list(expected.model.parameters()))
        assert [one.validation_rmse for one in resumed.candidates] == [
            one.validation_rmse for one in expected.candidates
        ]


@pytest.mark.parametrize("depth", ["auto", 2, 3, 4])
def test_a_search_that_runs_out_of_time_keeps_what_it_has(
    depth: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=time.perf_counter())
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr("dmf_fast.training.run.time", clock)
    monkeypatch.setattr("dmf_fast.completion.job.time", clock)
    rows = []

    def slow(progress: Progress) -> None:
        rows.append(progress.step)
        clock.now += 300

    job = options(depth=depth, fit=replace(QUIET, max_seconds=1000.0), refit=False)
    completed = complete_matrix(ratings(), job, callbacks=[slow])
    assert completed.search[-1].result.stopped_because == "max_seconds"
    assert len(completed.search) == 1
    assert completed.chosen.name == "depth 2"
    assert 4 <= len(rows) <= 5  # the last row is that of the end


def test_a_callback_that_stops_the_refit_ends_it() -> None:
    rows = 0

    def stop(progress: Progress) -> bool:
        nonlocal rows
        rows += progress.row["validation_rmse"] is None
        return rows == 10

    completed = complete_matrix(ratings(), options(), callbacks=[stop])
    assert [run.result.stopped_because for run in completed.refit] == ["callback"]


@pytest.mark.parametrize(
    "changes",
    [
        {"warmup": 30},
        {"lr": 0.1},
        {"optimizer": "sgd", "lr": 1.0},
        {"optimizer": "momentum", "lr": 0.1},
        {"optimizer": "group-rmsprop"},
    ],
)
def test_a_slow_optimizer_has_the_time_to_leave_its_start(changes: dict[str, Any]) -> None:
    completed = complete_matrix(ratings(), options(depth=2, seed=3, **changes))
    assert completed.chosen.name == "depth 2"
    assert completed.left_start


@pytest.mark.parametrize("changes", [{"batches": 4}, {"batches": 1}])
def test_the_refit_of_a_noisy_optimizer_is_as_long_as_its_search(changes: dict[str, Any]) -> None:
    fit = replace(QUIET, steps=120, **changes)
    job = options(depth=3, optimizer="group-rmsprop", weight_decay=0.0, fit=fit)
    completed = complete_matrix(ratings(), job)
    if completed.chosen.runs:
        assert completed.refit_steps >= 0.5 * (completed.best_step or 0)


@pytest.mark.parametrize("depth", ["auto", 3])
def test_a_later_phase_that_diverges_leaves_what_was_found_before(depth: Any) -> None:
    observed = ratings()

    def damage(progress: Progress) -> None:
        if len(progress.model.factors) == 3:
            with torch.no_grad():
                progress.model.factors[0].fill_(float("nan"))

    job = options(depth=depth, fit=replace(QUIET, engine="torch"))
    completed = complete_matrix(observed, job, callbacks=[damage])
    assert not completed.diverged
    assert completed.chosen.name == "depth 2"
    assert completed.refit


def test_a_job_resumes_with_more_steps(tmp_path: Path) -> None:
    few = options(fit=replace(QUIET, steps=8, checkpoint_every=2))
    many = replace(few, fit=replace(few.fit, steps=200))
    complete_matrix(ratings(), few, checkpoint=tmp_path)
    resumed = complete_matrix(ratings(), many, checkpoint=tmp_path, resume=True)
    expected = complete_matrix(ratings(), options(fit=replace(QUIET, steps=200)))
    assert_equal(list(resumed.model.parameters()), list(expected.model.parameters()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_completed(dtype: torch.dtype) -> None:
    train, test = ratings().split(0.1, seed=1)
    completed = complete_matrix(train.to(dtype=dtype), options(), test=test.to(dtype=dtype))
    assert completed.test_rmse is not None
    assert completed.test_rmse < 0.6


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_biases_alone_have_the_depth_that_was_asked_for(depth: int) -> None:
    completed = complete_matrix(noisy(), options(depth=depth))
    assert completed.depth == depth


@pytest.mark.parametrize("initialization", [None, "gaussian"])
def test_the_biases_are_a_candidate_of_every_start(initialization: Any) -> None:
    completed = complete_matrix(ratings(), options(depth=2, initialization=initialization))
    assert [one.name for one in completed.candidates] == ["biases", "depth 2"]
    assert completed.candidates[0].validation_rmse > completed.candidates[1].validation_rmse


@pytest.mark.parametrize(
    ("bias", "center", "name"), [(True, True, "biases"), (False, True, "mean"), (False, False, "zero")]
)
def test_what_is_left_without_factors_has_its_name(bias: bool, center: bool, name: str) -> None:
    completed = complete_matrix(ratings(), options(depth=2, bias=bias, center=center))
    assert completed.candidates[0].name == name


def test_folds_and_validation_exclude_one_another() -> None:
    observed = ratings()
    with pytest.raises(ValueError, match="`folds` must be None if `validation` is given"):
        complete_matrix(observed, options(), folds=[(observed, observed)], validation=observed)


def test_callbacks_count_steps_through_all_phases() -> None:
    seen: list[tuple[int, float | int | None]] = []

    def note(progress: Progress) -> None:
        seen.append((progress.step, progress.row["step"]))

    completed = complete_matrix(ratings(), options(refit=False), callbacks=[note])
    assert all(step == of_row for step, of_row in seen)
    assert [step for step, _ in seen] == completed.history["step"]


def _movielens(folder: Path, share: float, seed: int) -> tuple[Observations, Observations]:
    ratings = read_ratings(folder / "u.data")
    observed = ratings.observations()
    test, train = observed.split(share, seed)
    return train, test


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_depth_pays_on_movielens(movielens_folder: Path, share: float) -> None:
    errors = []
    for seed in range(3):
        train, test = _movielens(movielens_folder, share, seed)
        jobs = [
            complete_matrix(train, CompletionOptions(depth=depth, fit=QUIET), test=test) for depth in (2, 3)
        ]
        errors.append([*(job.test_rmse for job in jobs), rmse_of_biases(train, test, jobs[0])])
    depth_2, depth_3, biases = np.array(errors, dtype=float).T
    assert (depth_3 < depth_2).all()
    assert (depth_3 < biases).all()


def test_a_twentieth_of_movielens_is_predicted_as_well_as_by_the_biases(movielens_folder: Path) -> None:
    differences = []
    for seed in range(3):
        train, test = _movielens(movielens_folder, 0.05, seed)
        completed = complete_matrix(train, CompletionOptions(fit=QUIET), test=test)
        assert completed.test_rmse is not None
        differences.append(completed.test_rmse - rmse_of_biases(train, test, completed))
    assert np.median(differences) <= 5e-4


def test_the_biases_are_in_the_values_themselves() -> None:
    observed = ratings()
    scaled = observed.with_values(1e20 * observed.values.double())
    completed = complete_matrix(scaled, options(fit=replace(QUIET, steps=5)))
    assert completed.biases is not None
    expected = Biases.fit(observed, completed.biases.shrinkage)
    np.testing.assert_allclose(completed.biases.row_biases, 1e20 * expected.row_biases, rtol=1e-4)
