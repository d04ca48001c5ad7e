"""The fast phase: nearly the error of the defaults in a fraction of the steps, and a refit that continues."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dmf_fast import Observations
from dmf_fast.completion import FAST, CompletedMatrix, CompletionOptions, complete_matrix
from dmf_fast.completion.lbfgs import fast_options, fast_start
from dmf_fast.completion.starts import Phase, Prepared
from dmf_fast.data import read_ratings
from dmf_fast.evaluation import Biases
from dmf_fast.training import FitOptions, Progress
from tests.assertions import assert_equal
from tests.completion.ratings import ratings

QUIET = FitOptions(steps=2_000, patience=20, progress=False)


def observed() -> Observations:
    """Entries of biases and rank 3 with noise, some rows and columns with many more of them than others."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = 400, 300
    left, right = torch.randn(rows, 3, generator=generator), torch.randn(3, columns, generator=generator)
    dense = 3.5 + 0.4 * left @ right + 0.6 * torch.randn(rows, columns, generator=generator)
    dense += 0.3 * torch.randn(rows, 1, generator=generator)
    dense += 0.3 * torch.randn(columns, generator=generator)
    share = 0.6 * torch.rand(rows, 1, generator=generator) * torch.rand(columns, generator=generator)
    places = (torch.rand(rows, columns, generator=generator) < share).nonzero(as_tuple=True)
    return Observations(*places, dense[places], dense.shape)


def options(**changes: Any) -> CompletionOptions:
    return replace(FAST, **{"hidden": 8, "fit": QUIET} | changes)


@pytest.fixture(scope="module")
def fast() -> CompletedMatrix:
    """Most tests only read it."""
    train, test = observed().split(0.1, seed=1)
    return complete_matrix(train, options(), test=test)


def test_it_errs_little_more_than_the_defaults_in_a_fraction_of_the_steps(fast: CompletedMatrix) -> None:
    train, test = observed().split(0.1, seed=1)
    best = complete_matrix(train, CompletionOptions(hidden=8, fit=QUIET), test=test)
    assert fast.test_rmse is not None
    assert best.test_rmse is not None
    assert fast.test_rmse < 1.01 * best.test_rmse
    assert fast.steps + fast.refit_steps < (best.steps + best.refit_steps) / 3


def test_native_code_makes_all_steps(fast: CompletedMatrix) -> None:
    assert [run.result.engine for run in (*fast.search, *fast.refit)] == ["native", "native"]
    assert fast.depth == 2


def test_the_refit_is_one_step_from_the_best_of_the_search(fast: CompletedMatrix) -> None:
    (search,), (refit,) = fast.search, fast.refit
    assert refit.result.steps == 1
    best = search.result.history.table.to_pylist()[search.steps]
    first = refit.result.history.table.to_pylist()[0]
    # The same model on a twentieth more entries.
    assert first["train_loss"] == pytest.approx(best["train_loss"], rel=0.2)


def test_a_start_is_as_long_as_lowers_the_loss_most() -> None:
    train, validation = ratings().to(dtype=torch.float64).split(0.1, seed=0)
    part = Prepared.of(train, validation, options(), Biases.fit(train))
    model = fast_start(Phase(2, "spectral"), part, options()).model
    losses = []
    for length in (0.9, 1.0, 1.1):
        with torch.no_grad():
            model.factors[0].mul_(length)
            losses.append(model.loss(train).item())
            model.factors[0].div_(length)
    assert losses[1] < min(losses[0], losses[2])


def test_a_start_leaves_a_quarter_of_the_noise_off_the_gradient_and_keeps_a_fiftieth_of_the_first() -> None:
    train = ratings().to(dtype=torch.float64)
    part = Prepared.of(train, None, options(), Biases.fit(train))
    assert part.directions is not None
    values = part.directions.values[:8]
    for noise in (part.unit.noise, 3.9 * values[3].item()):  # the second leaves little of most
        told = replace(part, unit=replace(part.unit, noise=noise))
        model = fast_start(Phase(2, "spectral"), told, options()).model
        pulls = (values - 0.25 * noise).clamp(min=values[0].item() / 50)
        sizes = torch.linalg.svdvals((model.factors[1] @ model.factors[0]).detach())[:8]
        torch.testing.assert_close(sizes / sizes[0], pulls / pulls[0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("times", [0.8, 1.2])
def test_a_decay_that_is_a_fifth_off_errs_hardly_more(fast: CompletedMatrix, times: float) -> None:
    train, test = observed().split(0.1, seed=1)
    other = complete_matrix(train, options(weight_decay=times * FAST.weight_decay), test=test)
    assert fast.test_rmse is not None
    assert other.test_rmse == pytest.approx(fast.test_rmse, rel=0.02)


def test_a_weaker_decay_is_searched_for_fewer_steps_before_the_patience_counts() -> None:
    least = [fast_options(options(weight_decay=w), QUIET).patience_after for w in (0.05, 0.13, 0.3)]
    assert least == sorted(set(least))


def test_without_validation_entries_so_many_steps_are_made() -> None:
    completed = complete_matrix(ratings(), options(validation_fraction=0.0))
    assert completed.validation_rmse is None
    assert completed.steps == fast_options(options(), QUIET).patience_after
    assert completed.left_start


def test_deeper_factors_follow_by_gradient_descent_where_they_are_asked_for() -> None:
    train, test = observed().split(0.1, seed=1)
    completed = complete_matrix(train, options(depth=3), test=test)
    phases = [(run.phase.depth, run.phase.start) for run in completed.search]
    assert phases[:2] == [(2, "spectral"), (3, "product")]
    assert completed.refit[0].result.steps == 1
    assert completed.depth == 3


def test_without_a_decay_gradient_descent_runs_the_phase() -> None:
    completed = complete_matrix(ratings(), options(weight_decay=0.0, fit=replace(QUIET, steps=30)))
    assert completed.search[0].result.steps > 20
    assert not completed.diverged


def test_a_scale_of_the_values_changes_nothing_but_the_scale() -> None:
    train, test = observed().split(0.1, seed=1)
    plain = complete_matrix(train, options(), test=test)
    for scale in (1e-20, 1e20):
        scaled = [part.with_values(part.values.double() * scale) for part in (train, test)]
        completed = complete_matrix(scaled[0], options(), test=scaled[1])
        assert completed.test_rmse == pytest.approx(scale * (plain.test_rmse or 0.0), rel=1e-3)
    summed = complete_matrix(train, options(fit=replace(QUIET, reduction="sum")), test=test)
    assert summed.test_rmse == pytest.approx(plain.test_rmse, rel=1e-3)


@pytest.mark.usefixtures("threads")
def test_a_job_is_bit_identical_for_any_number_of_threads(fast: CompletedMatrix) -> None:
    train, test = observed().split(0.1, seed=1)
    again = complete_matrix(train, options(), test=test)
    assert_equal(list(again.model.parameters()), list(fast.model.parameters()))


def test_a_job_that_was_stopped_resumes_to_the_same_model(tmp_path: Path, fast: CompletedMatrix) -> None:
    train, test = observed().split(0.1, seed=1)

    def stop(progress: Progress) -> bool:
        return progress.step == 4

    first = complete_matrix(train, options(), test=test, checkpoint=tmp_path, callbacks=[stop])
    assert first.search[0].result.stopped_because == "callback"
    resumed = complete_matrix(train, options(), test=test, checkpoint=tmp_path, resume=True)
    assert_equal(list(resumed.model.parameters()), list(fast.model.parameters()))


def test_weights_count() -> None:
    entries = observed()
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(len(entries), generator=generator) + 0.5
    errors = []
    for weighted in (entries.with_values(entries.values, weights), entries):
        train, test = weighted.split(0.1, seed=1)
        errors.append(complete_matrix(train, options(), test=test).test_rmse)
    assert errors[0] == pytest.approx(errors[1], rel=0.02)
    assert errors[0] != errors[1]


def test_two_rows_of_noise_are_left_to_the_biases() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, 400, generator=generator)
    places = torch.ones(2, 400).nonzero(as_tuple=True)
    completed = complete_matrix(Observations(*places, values[places], (2, 400)), options())
    assert completed.chosen.name == "biases"


def test_movielens_is_predicted_within_six_thousandths_of_the_defaults(movielens_folder: Path) -> None:
    entries = read_ratings(movielens_folder / "u.data").observations()
    ratios = []
    for seed in range(3):
        train, test = entries.split(0.1, seed)
        jobs = [
            complete_matrix(train, replace(one, fit=QUIET), test=test) for one in (FAST, CompletionOptions())
        ]
        fast, best = (job.test_rmse or 0.0 for job in jobs)
        ratios.append(fast / best)
    assert np.median(ratios) < 1.006


@pytest.mark.parametrize(
    "entries",
    [
        Observations([0, 1, 2, 2], [0, 1, 0, 1], [3.0, 3.0, 3.0, 3.0]),
        Observations([0, 0, 0, 0], [0, 1, 2, 3], [1.0, 2.0, 3.0, 4.0]),
        Observations([0], [0], [1.0]),
        Observations([0, 1, 4, 4], [0, 5, 0, 5], [1.0, 2.0, 3.0, 4.0], (6, 7)),
    ],
    ids=["constant", "one row", "one entry", "empty rows and columns"],
)
def test_the_least_of_ratings_gives_a_model_of_finite_numbers(entries: Observations) -> None:
    completed = complete_matrix(entries, options())
    assert not completed.diverged
    assert all(torch.isfinite(parameter).all() for parameter in completed.model.parameters())


def test_gradients_that_are_clipped_are_refused() -> None:
    with pytest.raises(ValueError, match="`gradient_clip` must be None with lbfgs"):
        complete_matrix(observed(), options(fit=replace(QUIET, gradient_clip=1.0)))


def test_schedules_are_for_gradient_descent(fast: CompletedMatrix) -> None:
    train, test = observed().split(0.1, seed=1)
    other = complete_matrix(train, options(warmup=10, schedule="cosine"), test=test)
    assert_equal(list(other.model.parameters()), list(fast.model.parameters()))


def test_a_patience_that_counts_later_searches_longer(fast: CompletedMatrix) -> None:
    train, _ = observed().split(0.1, seed=1)
    later = complete_matrix(train, options(fit=replace(QUIET, patience_after=fast.steps + 10)))
    assert later.steps > fast.steps + 10
