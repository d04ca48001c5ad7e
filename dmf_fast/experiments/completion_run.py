"""One training run from its settings to its measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dmf_fast.experiments.optimizers import make_optimizer
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.training import FitOptions, FitResult, fit
from dmf_fast.training.history import Measures


@dataclass(frozen=True)
class RunSettings:
    """What a model is and how it is trained; the duration and the stopping are in `FitOptions`.

    ``mean`` is added to every prediction; ``bias_weight_decay`` None means as for the factors.
    """

    depth: int = 3
    hidden: int | None = None
    init_scale: float = 1e-3
    initialization: str = "gaussian"
    bias: bool = False
    mean: float = 0.0
    optimizer: str = "group-rmsprop"
    lr: float = 3e-3
    weight_decay: float = 0.0
    bias_weight_decay: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class CompletionRun:
    """A trained model and its measures; those that nothing is known about are None.

    ``train_loss``: mean squared residual over the training entries, without weight decay;
    ``reconstruction_mse``: mean squared error over the whole matrix, where the truth is known.
    """

    settings: RunSettings
    model: DeepMatrixFactorization
    result: FitResult
    train_loss: float
    validation_rmse: float | None
    test_rmse: float | None
    reconstruction_mse: float | None


def run_completion(
    settings: RunSettings,
    options: FitOptions,
    train: Observations,
    *,
    validation: Observations | None = None,
    test: Observations | None = None,
    truth: Tensor | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> CompletionRun:
    """Train one model on ``train`` and measure it.

    ``validation`` chooses the best step; ``test`` and ``truth`` (m, n) are only measured against.
    ``checkpoint`` and ``resume`` are those of `dmf_fast.training.fit`.

    >>> from dmf_fast.experiments import low_rank_problem
    >>> run = run_completion(RunSettings(), FitOptions(steps=2), low_rank_problem(9, 8, 1, 30, seed=0).train)
    >>> run.result.steps, run.test_rmse
    (2, None)
    """
    model = DeepMatrixFactorization(
        train.shape,
        settings.depth,
        settings.hidden,
        settings.init_scale,
        settings.initialization,
        bias=settings.bias,
        seed=settings.seed,
        dtype=train.dtype,
        device=train.device,
    )
    model.mean.fill_(settings.mean)
    optimizer = make_optimizer(
        settings.optimizer, model, settings.lr, settings.weight_decay, settings.bias_weight_decay
    )
    result = fit(
        model,
        train,
        optimizer,
        options,
        validation=validation,
        test=test,
        truth=truth,
        checkpoint=checkpoint,
        resume=resume,
    )
    # Measured again: with a validation set the model is now that of its best step.
    with torch.no_grad():
        train_loss = model.loss(train).item()
    row = Measures(validation, test, truth).row(model, result.steps, result.seconds, train_loss)
    return CompletionRun(
        settings,
        model,
        result,
        train_loss,
        validation_rmse=row["validation_rmse"],
        test_rmse=row["test_rmse"],
        reconstruction_mse=row["reconstruction_mse"],
    )
