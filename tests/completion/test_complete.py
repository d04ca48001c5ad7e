"""Whole jobs: search, refit, settings and their errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dmf_fast import Observations
from dmf_fast.completion import (
    CompletedMatrix,
    CompletionOptions,
    complete_matrix,
    validation_folds,
)
from dmf_fast.ops.statistics import mean_value, spread
from dmf_fast.training import FitOptions, Progress, Recording
from tests.assertions import assert_close, assert_equal
from tests.completion.ratings import ratings

FIT = FitOptions(steps=80, patience=4, seed=0)


def options(**changes: Any) -> CompletionOptions:
    recording = Recording(every=5, norms=False)
    given: dict[str, Any] = {
        "depth": 2,
        "hidden": 8,
        "fit": FIT,
        "recording": recording,
        "validation_fraction": 0.1,
    }
    return CompletionOptions(**given | changes)


@pytest.fixture(scope="module")
def plainly_completed() -> CompletedMatrix:
    """The job of most tests, which only read it."""
    return complete_matrix(ratings(), options())


def assert_same_model(one: CompletedMatrix, other: CompletedMatrix) -> None:
    assert_equal(list(one.model.parameters()), list(other.model.parameters()))
    assert torch.equal(one.model.mean, other.model.mean)


def test_defaults_predict_held_out_entries_far_better_than_the_mean() -> None:
    train, test = ratings().split(0.1, seed=1)
    completed = complete_matrix(train, options(), test=test)
    assert completed.test_rmse < 0.45 < 0.5 * test.values.std().item()


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_values_of_another_scale_and_origin_give_the_same_model(scale: float) -> None:
    observed = ratings()
    moved = observed.with_values(scale * (observed.values.double() - 7.0))
    first, second = (complete_matrix(one.to(dtype=torch.float64), options()) for one in (observed, moved))
    assert first.best_step == second.best_step
    places = [side[:20] for side in observed.coordinates()]
    torch.testing.assert_close(
        second.model.predict(*places) / scale + 7.0,
        first.model.predict(*places),
        rtol=1e-3,
        atol=1e-3,
    )


def test_constant_values_are_predicted_as_they_are() -> None:
    observed = ratings().with_values(torch.full((len(ratings()),), 4.0))
    completed = complete_matrix(observed, options())
    torch.testing.assert_close(completed.model.predict([0, 3], [2, 2]), torch.tensor([4.0, 4.0]))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_one_row_or_one_column_is_no_special_case(shape: tuple[int, int]) -> None:
    places = torch.arange(shape[0] * shape[1])
    observed = Observations(places // shape[1], places % shape[1], places.float() + 1, shape)
    completed = complete_matrix(observed, options())
    assert torch.isfinite(completed.model.predict([0], [0])).all()


def test_the_refit_learns_from_all_entries_as_closely_as_the_best_step_fitted_its_own() -> None:
    observed = ratings()
    completed = complete_matrix(observed, options(), folds=[observed.split(0.1, seed=0)])
    (searched,), (refitted,) = completed.search, completed.refit
    rows = searched.result.history.table.to_pylist()
    best = next(row for row in rows if row["step"] == searched.result.best_step)
    assert searched.loss_ratio == best["train_loss"] / rows[0]["train_loss"]
    reached = searched.loss_ratio * refitted.result.history["train_loss"][0]
    assert refitted.result.stopped_because == "train_loss_threshold"
    assert 0.8 * reached < completed.train_loss <= reached


def test_with_batches_the_refit_makes_as_many_steps_as_were_best() -> None:
    fit = replace(FIT, batches=2)
    completed = complete_matrix(ratings(), options(optimizer="group-rmsprop", fit=fit))
    assert completed.refit_steps == completed.best_step


def test_the_search_and_the_refit_run_in_native_code_by_default(plainly_completed: CompletedMatrix) -> None:
    assert {run.result.engine for run in (*plainly_completed.search, *plainly_completed.refit)} == {"native"}


@pytest.mark.parametrize("coordinates", ["scaled", "plain"])
def test_native_code_and_torch_complete_alike(coordinates: Any) -> None:
    train, test = (part.to(dtype=torch.float64) for part in ratings().split(0.1, seed=1))
    rule = {"optimizer": "group-rmsprop", "lr": 0.01 if coordinates == "plain" else None}
    ended = [
        complete_matrix(
            train, options(coordinates=coordinates, fit=replace(FIT, engine=engine), **rule), test=test
        )
        for engine in ("native", "torch")
    ]
    native, by_torch = ended
    assert native.best_step == by_torch.best_step
    assert native.test_rmse == pytest.approx(by_torch.test_rmse, rel=1e-8)
    assert native.train_loss == pytest.approx(by_torch.train_loss, rel=1e-8)
    assert_close(list(native.model.parameters()), list(by_torch.model.parameters()), 1e-7)


def test_a_part_that_is_given_is_put_back_for_the_refit(plainly_completed: CompletedMatrix) -> None:
    observed = ratings()
    given = complete_matrix(observed, options(), folds=validation_folds(observed, options()))
    assert_same_model(given, plainly_completed)


def test_validation_entries_that_are_given_are_used_instead_of_a_random_part() -> None:
    train, validation = ratings().split(0.2, seed=9)
    completed = complete_matrix(train, options(), validation=validation)
    assert not completed.refit
    with torch.no_grad():
        rmse = completed.model.loss(validation).sqrt().item()
    assert completed.validation_rmse == pytest.approx(rmse)


def test_weights_of_the_validation_entries_count_in_what_is_chosen_by() -> None:
    train, validation = ratings().split(0.2, seed=9)
    weights = torch.where(torch.arange(len(validation)) % 3 == 0, 5.0, 0.5)
    weighted = validation.with_values(validation.values, weights)

    completed = complete_matrix(train, options(), validation=weighted)

    rows, columns = validation.coordinates()
    for candidate, predicted in (
        (completed.chosen, completed.model.predict(rows, columns)),
        (completed.candidates[0], torch.from_numpy(completed.biases.predict(rows.numpy(), columns.numpy()))),
    ):
        squares = (predicted.double() - validation.values.double()).square()
        expected = (weights * squares).sum() / weights.sum()
        assert candidate.validation_rmse == pytest.approx(expected.sqrt().item(), rel=1e-4)
        assert candidate.validation_rmse != pytest.approx(squares.mean().sqrt().item(), rel=1e-3)


def test_validation_entries_end_the_search_and_nothing_but_steps_does_without_them() -> None:
    fit = replace(FIT, steps=60, patience=1)
    searched = complete_matrix(ratings(), options(fit=fit, refit=False)).search[0].result
    assert (searched.stopped_because, searched.steps < 60) == ("patience", True)
    alone = complete_matrix(ratings(), options(fit=fit, validation_fraction=0.0)).search[0].result
    assert (alone.stopped_because, alone.steps, alone.best_step) == ("steps", 60, None)


def test_without_validation_or_refit_there_is_one_run() -> None:
    for changes in ({"validation_fraction": 0.0}, {"refit": False}):
        completed = complete_matrix(ratings(), options(**changes))
        assert (len(completed.search), completed.refit) == (1, ())


def test_both_runs_call_back_and_are_timed() -> None:
    steps: list[int] = []

    def note(progress: Progress) -> None:
        steps.append(progress.step)

    completed = complete_matrix(ratings(), options(), callbacks=[note])
    assert steps.count(0) == 2
    assert completed.seconds > completed.result.seconds


def test_a_job_that_was_stopped_in_its_refit_resumes_to_the_same_model(
    tmp_path: Path, plainly_completed: CompletedMatrix
) -> None:
    starts = 0

    def stop(progress: Progress) -> bool:
        nonlocal starts
        starts += progress.step == 0
        if starts == 2 and progress.step == 10:
            raise RuntimeError("the machine is switched off")
        return False

    fit = replace(FIT, checkpoint_every=7)
    kept = replace(options(), fit=fit)
    with pytest.raises(RuntimeError, match="switched off"):
        complete_matrix(ratings(), kept, callbacks=[stop], checkpoint=tmp_path)
    resumed = complete_matrix(ratings(), kept, checkpoint=tmp_path, resume=True)
    assert_same_model(resumed, plainly_completed)


def test_a_run_that_diverges_says_so_and_is_not_trained_again() -> None:
    completed = complete_matrix(ratings(), options(optimizer="sgd", lr=1e9, coordinates="plain"))
    assert completed.diverged
    assert not completed.refit


def test_batches_are_refused_where_every_step_must_see_the_same_function() -> None:
    with pytest.raises(ValueError, match=r"`batches` must be 1 with adaptive-gd, .*, got 4"):
        complete_matrix(ratings(), CompletionOptions(fit=FitOptions(steps=3, batches=4)))


def test_the_seed_of_the_job_is_that_of_its_batches() -> None:
    fit = FitOptions(steps=3, batches=4)
    job = options(optimizer="group-rmsprop", fit=fit, validation_fraction=0.0, seed=7)
    losses = [
        complete_matrix(ratings(), replace(job, fit=replace(fit, seed=seed))).history["train_loss"]
        for seed in (None, 7, 8)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_batches_train_with_group_rmsprop() -> None:
    train, test = ratings().split(0.1, seed=1)
    fit = replace(FIT, batches=4, steps=400)
    job = options(optimizer="group-rmsprop", fit=fit, recording=Recording(every=8, norms=False))
    completed = complete_matrix(train, job, test=test)
    assert completed.result.engine == "torch"
    assert completed.test_rmse is not None
    assert completed.test_rmse < 0.45


@pytest.mark.parametrize("scale", [1e-35, 1e-18, 1e-8, 1e8, 1e18, 1e35])
def test_values_whose_squares_leave_float32_give_the_same_model_and_measures(scale: float) -> None:
    train, test = ratings().split(0.1, seed=1)
    scaled = [part.with_values(scale * part.values.double()) for part in (train, test)]
    fits = [replace(FIT, train_loss_threshold=0.1 * factor * factor) for factor in (1.0, scale)]
    first, second = (
        complete_matrix(parts[0], replace(options(), fit=fit), test=parts[1])
        for parts, fit in zip(((train, test), scaled), fits, strict=True)
    )
    assert second.test_rmse == pytest.approx(scale * first.test_rmse, rel=0.02)
    assert second.train_loss == pytest.approx(scale**2 * first.train_loss, rel=0.05)
    assert second.search[0].result.stopped_because == first.search[0].result.stopped_because
    histories = [one.history for one in (first, second)]
    for name, power in (("validation_rmse", 1), ("train_loss", 2), ("step", 0)):
        before, after = (np.array(history[name][:5]) for history in histories)
        assert after == pytest.approx(scale**power * before, rel=0.02)
    predictions = [one.model.predict(*test.coordinates()) for one in (first, second)]
    torch.testing.assert_close(predictions[1] / scale, predictions[0], rtol=0.05, atol=0.05)


def test_a_random_part_without_weight_does_not_validate() -> None:
    observed = ratings()
    weights = torch.zeros(len(observed))
    weights[0] = 1.0
    completed = complete_matrix(observed.with_values(observed.values, weights), options())
    assert not completed.refit
    assert completed.validation_rmse is None


@pytest.mark.parametrize("weights", [None, [0.0, 0.0]])
def test_without_entries_of_any_weight_the_error_is_a_sentence(weights: list[float] | None) -> None:
    places: list[int] = [] if weights is None else [0, 1]
    observed = Observations(places, places, [1.0] * len(places), (3, 3), weights=weights)
    with pytest.raises(ValueError, match=r"`?train`? must hold an entry with a weight above zero"):
        complete_matrix(observed, options())


@pytest.mark.parametrize("value", [0.1, -1e6])
def test_values_that_are_all_equal_have_no_spread_of_rounding(value: float) -> None:
    observed = Observations([0] * 1001, range(1001), torch.full((1001,), value, dtype=torch.float64))
    assert spread(observed, mean_value(observed)) == 1.0


@pytest.mark.parametrize(("optimizer", "batches"), [("adaptive-gd", 1), ("group-rmsprop", 4)])
def test_weight_decay_means_the_same_for_sums_as_for_means(optimizer: Any, batches: int) -> None:
    observed = ratings().to(dtype=torch.float64)
    first, second = (
        complete_matrix(
            observed,
            options(
                optimizer=optimizer,
                weight_decay=0.5,
                validation_fraction=0.0,
                fit=replace(FIT, reduction=reduction, batches=batches, steps=40),
            ),
        )
        for reduction in ("mean", "sum")
    )
    assert second.train_loss == pytest.approx(first.train_loss, rel=0.01)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_plain_coordinates_refuse_values_whose_squares_float32_loses(scale: float) -> None:
    observed = ratings()
    extreme = observed.with_values(scale * observed.values.double())
    with pytest.raises(ValueError, match="whose squares fit float32, got some of about"):
        complete_matrix(extreme, options(coordinates="plain"))
