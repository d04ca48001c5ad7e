"""One training run from its settings to its measures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from dmf_fast.completion.optimizers import make_optimizer
from dmf_fast.completion.options import CompletionOptions
from dmf_fast.completion.rescaling import rescaled
from dmf_fast.completion.scaled_model import ScaledFactorization
from dmf_fast.completion.scales import degree_scales, mean_value, noise_level, spread
from dmf_fast.completion.schedules import make_scheduler
from dmf_fast.completion.units import in_unit, measured, measured_history, options_in_unit, value_unit
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.training import Callback, FitOptions, FitResult, fit
from dmf_fast.training.history import Measures

# Of adaptive-gd: with whole steps the loss rises now and then, with halves it hardly does.
_ADAPTIVE_RATE = 0.5
# Values between this and its inverse have squares, and parts of these, that float32 holds.
_SQUARABLE = 1e15
# Length of a step of group-rmsprop beside the root of the number of rows and columns.
_RMSPROP_STEP = 0.04


@dataclass(frozen=True)
class CompletionRun:
    """A trained model and its measures; those that nothing is known about are None.

    ``model``: of the matrix itself, without scales;
    ``train_loss``: mean squared residual over the training entries, without weight decay;
    ``reconstruction_mse``: mean squared error over the whole matrix, where the truth is known.
    """

    settings: CompletionOptions
    model: DeepMatrixFactorization
    result: FitResult
    train_loss: float
    validation_rmse: float | None
    test_rmse: float | None
    reconstruction_mse: float | None


def run_completion(
    settings: CompletionOptions,
    train: Observations,
    *,
    validation: Observations | None = None,
    test: Observations | None = None,
    truth: Tensor | None = None,
    callbacks: Sequence[Callback] = (),
    schedule_steps: int | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> CompletionRun:
    """Train one model on ``train`` and measure it.

    ``validation`` chooses the best step; ``test`` and ``truth`` (m, n) are only measured against.
    ``schedule_steps`` is where the schedule of the learning rate ends, ``settings.fit.steps`` by default.
    ``callbacks``, ``checkpoint`` and ``resume`` are those of `dmf_fast.training.fit`, as are the errors; and
    a `ValueError` says where batches do not go with the optimiser, or values with plain coordinates.

    In scaled coordinates values of any size are trained in a unit of their own, `value_unit`. Callbacks see
    the errors in it; what is returned is in the values themselves.

    >>> from dmf_fast.experiments import low_rank_problem
    >>> options = CompletionOptions().changed({"steps": 2})
    >>> run = run_completion(options, low_rank_problem(9, 8, 1, 30, seed=0).train)
    >>> run.result.steps, run.test_rmse
    (2, None)
    """
    options = settings.fit if settings.fit.seed is not None else replace(settings.fit, seed=settings.seed)
    if settings.optimizer == "adaptive-gd" and options.batches > 1:
        raise ValueError(
            f"adaptive-gd takes all entries in every step, but batches is {options.batches}; choose another "
            "optimizer, such as group-rmsprop, or 1."
        )
    if train.total_weight == 0:
        raise ValueError("train must hold an entry with a weight above zero, but it holds none.")
    unit = value_unit(train)
    if settings.coordinates == "plain":
        _refuse_lost_squares(train, unit)
        unit = 1.0
    train = in_unit(train, unit)
    validation = None if validation is None else in_unit(validation, unit)
    test = None if test is None else in_unit(test, unit)
    truth = truth if truth is None or unit == 1 else truth.double() / unit
    start = _start(settings, options, train)
    optimizer = make_optimizer(
        settings.optimizer, start.model, start.lr, start.weight_decay, start.bias_weight_decay
    )
    steps = options.steps if schedule_steps is None else schedule_steps
    result = fit(
        start.model,
        train,
        optimizer,
        options_in_unit(options, unit),
        recording=settings.recording,
        validation=validation,
        test=test,
        truth=truth,
        scheduler=make_scheduler(settings.schedule, optimizer, steps, settings.warmup),
        callbacks=callbacks,
        checkpoint=checkpoint,
        resume=resume,
    )
    model = start.model.plain() if isinstance(start.model, ScaledFactorization) else start.model
    # Measured again: with a validation set the model is now that of its best step.
    with torch.no_grad():
        train_loss = model.loss(train).item()
    row = Measures(validation, test, truth).row(model, result.steps, result.seconds, train_loss)
    return CompletionRun(
        settings,
        model if unit == 1 else rescaled(model, mean=0.0, scale=unit),
        replace(result, history=measured_history(result.history, unit)),
        train_loss=train_loss * unit * unit,
        validation_rmse=measured("validation_rmse", row["validation_rmse"], unit),
        test_rmse=measured("test_rmse", row["test_rmse"], unit),
        reconstruction_mse=measured("reconstruction_mse", row["reconstruction_mse"], unit),
    )


def _refuse_lost_squares(train: Observations, unit: float) -> None:
    if train.dtype != torch.float64 and not 1 / _SQUARABLE < unit < _SQUARABLE:
        raise ValueError(
            f"train holds values of about {unit:.0e}, whose squares float32 loses: in plain coordinates "
            "divide them, or take float64."
        )


@dataclass(frozen=True)
class _Start:
    """A model before its first step, and the options of its optimiser in its own units."""

    model: DeepMatrixFactorization
    lr: float
    weight_decay: float
    bias_weight_decay: float | None


def _start(settings: CompletionOptions, options: FitOptions, train: Observations) -> _Start:
    mean = mean_value(train) if settings.center else 0.0
    plain = settings.coordinates == "plain"
    start = _plain_start(settings, train) if plain else _scaled_start(settings, options, train, mean)
    start.model.mean.fill_(mean)
    return start


def _plain_start(settings: CompletionOptions, train: Observations) -> _Start:
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
    return _Start(model, _rate(settings, train), settings.weight_decay, settings.bias_weight_decay)


def _scaled_start(
    settings: CompletionOptions, options: FitOptions, train: Observations, mean: float
) -> _Start:
    rows, columns = degree_scales(train, settings.degree_exponent)
    value_scale = spread(train, mean)
    model = ScaledFactorization(
        rows,
        columns,
        value_scale,
        settings.depth,
        settings.hidden,
        settings.init_scale * math.sqrt(max(train.shape)),
        settings.initialization,
        bias=settings.bias,
        seed=settings.seed,
        dtype=train.dtype,
    ).to(train.device)
    unit = noise_level(train, rows, columns, value_scale)
    if options.reduction == "sum":
        unit *= train.total_weight / options.batches
    bias_decay = settings.weight_decay if settings.bias_weight_decay is None else settings.bias_weight_decay
    return _Start(
        model,
        _rate(settings, train),
        settings.weight_decay * unit,
        bias_decay * unit * ScaledFactorization.BIAS_SCALE**2,
    )


def _rate(settings: CompletionOptions, train: Observations) -> float:
    if settings.lr is not None:
        return settings.lr
    return (
        _ADAPTIVE_RATE if settings.optimizer == "adaptive-gd" else _RMSPROP_STEP * math.sqrt(sum(train.shape))
    )
