"""Several runs trained in lockstep as one: the folds of a cross-validation.

Each fold has its own model, training entries and validation entries. A row records the means over the folds,
so that a single curve selects one best step for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.optim.spec import OptimizerSpec
from dmf_fast.training.arguments import check_fit, checked_callbacks
from dmf_fast.training.course import drive
from dmf_fast.training.engines.choice import make_engine
from dmf_fast.training.engines.lockstep import LockstepEngine
from dmf_fast.training.engines.protocol import Engine, thresholds
from dmf_fast.training.fit import FitResult, run_course, running
from dmf_fast.training.identity import identity_of_run
from dmf_fast.training.measures import Measures
from dmf_fast.training.options import FitOptions
from dmf_fast.training.recording import Recording
from dmf_fast.training.run import Callback, Run


@dataclass(frozen=True, eq=False)
class Fold:
    """One of the runs.

    Attributes:
        model: trained in place.
        train: its training entries.
        optimizer: makes the optimizer of its parameters.
        validation: its validation entries; None if no fold has any.

    """

    model: DeepMatrixFactorization
    train: Observations
    optimizer: OptimizerSpec
    validation: Observations | None = None


def fit_folds(
    folds: Sequence[Fold],
    options: FitOptions,
    *,
    recording: Recording,
    test: Observations | None = None,
    truth: Tensor | None = None,
    scheduler: Callable[[torch.optim.Optimizer], LRScheduler | None] | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | None = None,
    resume: bool = False,
) -> FitResult:
    """Train all folds in lockstep; with a single fold this is `dmf_fast.training.fit`, see there.

    Losses and squared errors are means over the folds. They determine the best step, the patience and all
    other reasons to stop, so that all folds end in the state of the same step. Spectra and norms are those of
    the first fold, and callbacks see its model.

    Raises:
        TypeError, ValueError: as for `dmf_fast.training.fit`.

    """
    first = folds[0]
    measures = Measures(first.validation, test, truth, recording)
    for fold in folds:
        own = replace(measures, validation=fold.validation)
        check_fit(fold.model, fold.train, fold.optimizer, own, options)
    called = checked_callbacks(callbacks)
    sharding = first.train.sharding
    with running(options, checkpoint, first.train, resume=resume) as (folder, interrupted, report):
        engine, reason = _engine(folds, options, scheduler)
        identity = {} if folder is None else _identity(folds, options, measures, engine.name, scheduler)
        run = Run(engine, options, measures, called, folder, identity, interrupted, report, sharding, reason)
        return drive(run_course(run, [(fold.model, fold.train) for fold in folds]))


def _engine(folds: Sequence[Fold], options: FitOptions, scheduler: Any) -> tuple[Engine, str | None]:
    """Return the engine for all folds, and the reason why it is not native, if it is not."""
    own = options
    if len(folds) > 1:
        own = replace(options, train_loss_threshold=None, gradient_norm_threshold=None)
    made = [make_engine(fold.model, fold.train, fold.optimizer, own, None, scheduler) for fold in folds]
    engines = [engine for engine, _ in made]
    reason = made[0][1]
    if len(folds) == 1:
        return engines[0], reason
    validations, sharding = [fold.validation for fold in folds], folds[0].train.sharding
    return LockstepEngine(engines, validations, thresholds(options), sharding), reason


def _identity(
    folds: Sequence[Fold], options: FitOptions, measures: Measures, engine: str, scheduler: Any
) -> dict[str, Any]:
    identity: dict[str, Any] = {}
    for place, fold in enumerate(folds):
        data = {"train": fold.train, "validation": fold.validation, "test": measures.test}
        own = identity_of_run(fold.model, fold.optimizer, options, measures, data, engine, scheduler)
        identity |= own if place == 0 else {f"fold {place}: {name}": value for name, value in own.items()}
    identity["folds"] = len(folds)
    return identity
