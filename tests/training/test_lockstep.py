"""Folds that train in lockstep make the steps of separate runs, and stop together by their means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dmf_fast import DeepMatrixFactorization, Observations
from dmf_fast.optim import AdaptiveGradientDescent, OptimizerSpec
from dmf_fast.training import FitOptions, Progress, Recording, fit
from dmf_fast.training.lockstep import Fold, fit_folds
from tests.assertions import assert_equal

RULE = OptimizerSpec(AdaptiveGradientDescent, {"lr": 0.5})
EVERY_STEP = Recording(every=1, norms=False)


def ratings() -> Observations:
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(30, 3, generator=generator) @ torch.randn(3, 20, generator=generator)
    dense += torch.randn(dense.shape, generator=generator)
    rows, columns = (torch.rand(dense.shape, generator=generator) < 0.6).nonzero(as_tuple=True)
    return Observations(rows, columns, dense[rows, columns].double(), dense.shape)


def folds(count: int = 3) -> list[Fold]:
    return [
        Fold(
            DeepMatrixFactorization(train.shape, 2, 6, 0.1, seed=place, dtype=torch.float64),
            train,
            RULE,
            validation,
        )
        for place, (train, validation) in enumerate(ratings().folds(0.1, count, seed=1))
    ]


def parameters(of: list[Fold]) -> list[torch.Tensor]:
    return [parameter for fold in of for parameter in fold.model.parameters()]


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_rows_are_means_over_runs_of_their_own(engine: str) -> None:
    together, apart = folds(), folds()
    options = FitOptions(steps=12, engine=engine)

    result = fit_folds(together, options, recording=EVERY_STEP)

    own = [
        fit(fold.model, fold.train, RULE, options, recording=EVERY_STEP, validation=fold.validation)
        for fold in apart
    ]
    losses = np.mean([one.history["train_loss"] for one in own], axis=0)
    squares = np.mean([np.square(one.history["validation_rmse"]) for one in own], axis=0)
    assert result.engine == engine
    np.testing.assert_allclose(result.history["train_loss"], losses, rtol=1e-12)
    np.testing.assert_allclose(np.square(result.history["validation_rmse"]), squares, rtol=1e-12)


def test_all_folds_end_in_the_step_that_is_best_for_their_mean() -> None:
    together, alone = folds(), folds()
    result = fit_folds(together, FitOptions(steps=200, patience=10), recording=EVERY_STEP)
    assert result.stopped_because == "patience"
    assert result.best_step is not None
    for fold in alone:
        fit(fold.model, fold.train, RULE, FitOptions(steps=result.best_step), recording=EVERY_STEP)
    assert_equal(parameters(together), parameters(alone))


def test_one_fold_is_a_run_of_fit() -> None:
    (one,), (other,) = folds(1), folds(1)
    options = FitOptions(steps=40, patience=5)
    result = fit_folds([one], options, recording=EVERY_STEP)
    expected = fit(other.model, other.train, RULE, options, recording=EVERY_STEP, validation=other.validation)
    assert result.best_step == expected.best_step
    assert_equal(parameters([one]), parameters([other]))


def test_thresholds_are_those_of_the_means_and_are_looked_at_in_every_step() -> None:
    losses = fit_folds(folds(), FitOptions(steps=30), recording=EVERY_STEP).history["train_loss"]
    threshold = (losses[17] + losses[18]) / 2
    stopped = fit_folds(
        folds(), FitOptions(steps=30, train_loss_threshold=threshold), recording=Recording(every=50)
    )
    first = next(step for step, loss in enumerate(losses) if loss <= threshold)
    assert (stopped.stopped_because, stopped.steps) == ("train_loss_threshold", first)


def test_folds_that_were_stopped_resume_bit_for_bit(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 13:
            raise RuntimeError("the machine is switched off")

    options = FitOptions(steps=30, patience=20, checkpoint_every=5)
    never, stopped, resumed = folds(), folds(), folds()
    fit_folds(never, FitOptions(steps=30, patience=20), recording=EVERY_STEP)
    with pytest.raises(RuntimeError, match="switched off"):
        fit_folds(stopped, options, recording=EVERY_STEP, callbacks=[stop], checkpoint=tmp_path)
    result = fit_folds(resumed, options, recording=EVERY_STEP, checkpoint=tmp_path, resume=True)
    assert result.steps == 30
    assert_equal(parameters(resumed), parameters(never))


def test_a_checkpoint_of_other_folds_is_refused(tmp_path: Path) -> None:
    options = FitOptions(steps=5, checkpoint_every=5)
    fit_folds(folds(3), options, recording=EVERY_STEP, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="belongs to another run"):
        fit_folds(folds(2), options, recording=EVERY_STEP, checkpoint=tmp_path, resume=True)


def test_a_fold_that_diverges_ends_all() -> None:
    broken = folds()
    with torch.no_grad():
        broken[1].model.factors[0][0, 0] = float("inf")
    result = fit_folds(broken, FitOptions(steps=5), recording=EVERY_STEP)
    assert result.stopped_because == "diverged"
