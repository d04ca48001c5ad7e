"""A width that is found: narrow chains go the way of wide ones, and are given up where their width binds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dmf_fast import Observations
from dmf_fast.chain import balancedness, chain_product
from dmf_fast.completion import PAPER, CompletedMatrix, CompletionOptions, complete_matrix
from dmf_fast.completion import widths as module
from dmf_fast.completion.spectral import spectral_factors
from dmf_fast.completion.widths import relative_distance, smaller_half
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
    assert trial.smaller_half <= module.LARGEST_SMALLER_HALF
    assert relative_distance(found.model, wide.model) < 0.01
    assert found.steps == pytest.approx(wide.steps, rel=0.02)
    assert found.reconstruction_mse == pytest.approx(wide.reconstruction_mse, abs=1e-4)


def test_a_width_that_binds_is_given_up_early_and_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WIDTH", 2)
    found = completed(hidden="auto")

    assert [trial.width for trial in found.widths] == [2, 4, 8][: len(found.widths)]
    *binding, last = found.widths
    assert binding
    assert all(trial.smaller_half > module.LARGEST_SMALLER_HALF for trial in binding)
    assert all(trial.steps < last.steps for trial in binding)
    assert last.smaller_half <= module.LARGEST_SMALLER_HALF
    assert found.result.stopped_because == "train_loss_threshold"


def test_a_run_that_has_not_left_its_start_says_nothing_of_its_width() -> None:
    found = completed(hidden="auto", fit=FitOptions(steps=10))
    assert [(trial.width, trial.smaller_half) for trial in found.widths] == [(module.FIRST_WIDTH, 0.0)]


def test_the_full_width_never_binds() -> None:
    entries = Observations.from_dense(torch.eye(3))
    options = replace(OPTIONS, hidden="auto", fit=FitOptions(steps=300))
    found = complete_matrix(entries, options)
    assert [trial.width for trial in found.widths] == [3]
    assert found.result.stopped_because == "steps"


def test_a_chain_of_one_factor_has_no_width_to_find() -> None:
    found = completed(hidden="auto", depth=1, fit=FitOptions(steps=20))
    assert [(trial.width, trial.smaller_half) for trial in found.widths] == [(module.FIRST_WIDTH, 0.0)]


def test_with_validation_only_the_best_rows_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Progress] = []
    watch = module._Watch(module.WHOLE, can_grow=True)
    monkeypatch.setattr(module, "smaller_half", lambda values: 0.5)
    model = DeepMatrixFactorization((2, 2), 2, seed=0)
    for step, rmse in enumerate([3.0, 4.0, 3.5, 2.0]):
        row = {"step": step, "train_loss": 1.0 / (1 + 3 * step), "validation_rmse": rmse}
        seen.append(Progress(step, model, row, [one.row for one in seen] + [row]))
    assert [watch(progress) for progress in seen] == [False, False, False, True]


def test_the_job_is_refitted_at_the_width_that_was_found() -> None:
    fit = FitOptions(steps=4_000, patience=20)
    found = completed(hidden="auto", validation_fraction=0.1, refit=True, fit=fit)
    assert found.refit
    assert found.model.dims == (SIZE, found.widths[-1].width, found.widths[-1].width, SIZE)
    assert found.reconstruction_mse is not None
    assert found.reconstruction_mse < 0.01


def test_a_job_that_is_stopped_resumes_at_its_width(found: CompletedMatrix, tmp_path: Path) -> None:
    given = problem()
    options = replace(OPTIONS, hidden="auto")

    def stop(progress: Progress) -> bool:
        return progress.step >= 200

    stopped = complete_matrix(given.train, options, callbacks=[stop], checkpoint=tmp_path)
    assert stopped.result.stopped_because == "callback"
    resumed = complete_matrix(given.train, options, checkpoint=tmp_path, resume=True)

    for factor, expected in zip(resumed.model.factors, found.model.factors, strict=True):
        torch.testing.assert_close(factor, expected, rtol=0, atol=0)


def test_the_smaller_half_is_what_the_last_half_of_the_width_holds() -> None:
    assert smaller_half(torch.tensor([4.0, 3.0, 2.0, 1.0])) == pytest.approx(0.3)
    assert smaller_half(torch.tensor([4.0, 1.0, 1.0])) == pytest.approx(1 / 3)
    assert smaller_half(torch.zeros(2)) == 0


def test_the_distance_of_models_is_that_of_their_products() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [((3, 6), (3, 3), (5, 3)), ((2, 6), (5, 2))]
    models = [[torch.randn(shape, generator=generator) for shape in chain] for chain in shapes]
    one, other = (chain_product([factor.double() for factor in chain]) for chain in models)
    expected = float((one - other).norm() / other.norm())
    found = relative_distance(*(DeepMatrixFactorization.of_factors(chain) for chain in models))
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"coordinates": "scaled", "init_scale": None, "lr": None}, "`hidden` must be a number"),
        ({"initialization": "gaussian"}, "`hidden` must be a number where factors start as 'gaussian'"),
        ({"bias": True}, "coordinates with biases, got 'auto', which needs .* no biases"),
        ({"depth": "auto"}, "`depth` must be a number"),
    ],
)
def test_what_an_automatic_width_needs_is_said(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        complete_matrix(problem().train, replace(OPTIONS, hidden="auto", **changes))


def test_a_width_must_be_a_number_or_auto() -> None:
    with pytest.raises(ValueError, match="`hidden` must be a whole number or one of auto, got 'wide'"):
        CompletionOptions(hidden="wide")  # type: ignore[arg-type]
