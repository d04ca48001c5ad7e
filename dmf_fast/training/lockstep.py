"""Several runs that make their steps side by side, as one: the folds of a cross-validation.

Every fold has a model, training entries and validation entries of its own. What a row records is the mean
over the folds, so that one curve chooses one best step for all of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from dmf_fast._native import Outcome
from dmf_fast.files.checkpoint import held_folder
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.optim.spec import OptimizerSpec
from dmf_fast.training.arguments import check_fit, checked_callbacks
from dmf_fast.training.engines.choice import make_engine
from dmf_fast.training.engines.protocol import Engine, EngineState, thresholds
from dmf_fast.training.fit import FitResult, progress_bar, run_until_done
from dmf_fast.training.identity import identity_of_run
from dmf_fast.training.interrupt import DeferredInterrupt
from dmf_fast.training.measures import Measures
from dmf_fast.training.options import FitOptions
from dmf_fast.training.recording import Recording
from dmf_fast.training.run import Callback, Run
from dmf_fast.training.start import has_left_start


@dataclass(frozen=True, eq=False)
class Fold:
    """One of the runs.

    Attributes:
        model: trained in place.
        train: its observed entries.
        optimizer: makes the optimizer of its parameters.
        validation: its validation entries, or None, for all folds alike.

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
    """Train all folds at once; with one of them this is `dmf_fast.training.fit`, which explains the rest.

    Losses and squared errors are means over the folds. Patience, the best step and every other reason to stop
    are decided on these, so that all folds end in the state of the same step. Spectra and norms are those of
    the first fold, which callbacks see, too.

    Raises:
        TypeError, ValueError: as `dmf_fast.training.fit` raises.

    """
    first = folds[0]
    measures = Measures(first.validation, test, truth, recording)
    for fold in folds:
        own = replace(measures, validation=fold.validation)
        check_fit(fold.model, fold.train, fold.optimizer, own, options)
    called = checked_callbacks(callbacks)
    with (
        held_folder(checkpoint, every=options.checkpoint_every, resume=resume) as folder,
        DeferredInterrupt() as interrupt,
        progress_bar(options) as bar,
    ):
        engine, reason = _engine(folds, options, scheduler)
        identity = {} if folder is None else _identity(folds, options, measures, engine.name, scheduler)
        run = Run(
            engine, options, measures, called, folder, identity, lambda: interrupt.requested, bar.update
        )
        result = run_until_done(run, first.model.mean.device, reason)
    left_start = any(has_left_start(fold.model, fold.train) for fold in folds)
    return replace(result, left_start=left_start)


class LockstepEngine:
    """Engines of which each makes the steps of a fold; see `Engine` for what its methods do."""

    def __init__(
        self,
        engines: Sequence[Engine],
        validations: Sequence[Observations | None],
        thresholds: tuple[float, float],
    ) -> None:
        """Take engines that know no thresholds; those of the means, `thresholds`, are looked at here."""
        self._engines, self._validations, self._thresholds = engines, validations, thresholds
        self.name = engines[0].name

    def run(self, until: int, *, most_seconds: float) -> Outcome:
        """Make updates until ``until`` are made in all, a stop rule holds or about so much time is over."""
        deadline = time.perf_counter() + most_seconds
        looks = max(self._thresholds) >= 0
        while True:
            outcome = self._all_to(min(self.step + 1, until) if looks else until, deadline)
            if outcome == Outcome.reached and looks:
                outcome = self._ending()
            if outcome != Outcome.reached or self.step >= until:
                return outcome
            if time.perf_counter() > deadline:
                return Outcome.paused

    def _all_to(self, until: int, deadline: float) -> Outcome:
        """Bring all engines to one step: ``until``, or one before it where the time is over."""
        for engine in self._engines:
            left = max(0.0, deadline - time.perf_counter())
            outcome = engine.run(until, most_seconds=left)
            if outcome == Outcome.paused:  # those after it need not go further
                until = engine.step
            elif outcome != Outcome.reached:
                return outcome
        for engine in self._engines:
            if engine.step > until:
                return self._all_to(engine.step, math.inf)
        return Outcome.reached

    def _ending(self) -> Outcome:
        """Return which stop rule holds for the means."""
        least_loss, least_norm = self._thresholds
        if self.loss <= least_loss:
            return Outcome.train_loss_threshold
        if least_norm >= 0 and self.gradient_norm <= least_norm:
            return Outcome.gradient_norm_threshold
        return Outcome.reached

    @property
    def step(self) -> int:
        """Updates made so far."""
        return self._engines[0].step

    @property
    def loss(self) -> float:
        """Mean over the folds of the mean squared residual."""
        return _mean(engine.loss for engine in self._engines)

    @property
    def gradient_norm(self) -> float:
        """Mean over the folds of the norm of all gradients."""
        return _mean(engine.gradient_norm for engine in self._engines)

    def mean_squared_error(self, observations: Observations) -> float:
        """Return the mean over the folds; the first fold's validation entries stand for those of each."""
        own = observations is self._validations[0]
        return _mean(
            engine.mean_squared_error(validation if own and validation is not None else observations)
            for engine, validation in zip(self._engines, self._validations, strict=True)
        )

    def model(self) -> DeepMatrixFactorization:
        """Return the model of the first fold."""
        return self._engines[0].model()

    def keep(self) -> None:
        """Keep a copy of the present parameters."""
        for engine in self._engines:
            engine.keep()

    def state(self) -> EngineState:
        """Return copies of all that changes from step to step."""
        return _joined([engine.state() for engine in self._engines])

    def resume(self, state: EngineState) -> None:
        """Take up a state that `state` has returned."""
        for place, engine in enumerate(self._engines):
            engine.resume(_of_fold(state, place))

    def finish(self, *, best: bool) -> None:
        """Leave all models with the kept or the present parameters."""
        for engine in self._engines:
            engine.finish(best=best)


def _engine(folds: Sequence[Fold], options: FitOptions, scheduler: Any) -> tuple[Engine, str | None]:
    """Return what makes the steps of all folds, and why it is not native code where it is not."""
    own = options
    if len(folds) > 1:
        own = replace(options, train_loss_threshold=None, gradient_norm_threshold=None)
    made = [make_engine(fold.model, fold.train, fold.optimizer, own, None, scheduler) for fold in folds]
    engines = [engine for engine, _ in made]
    reason = made[0][1]
    if len(folds) == 1:
        return engines[0], reason
    return LockstepEngine(engines, [fold.validation for fold in folds], thresholds(options)), reason


def _identity(
    folds: Sequence[Fold], options: FitOptions, measures: Measures, engine: str, scheduler: Any
) -> dict[str, Any]:
    identity: dict[str, Any] = {}
    for place, fold in enumerate(folds):
        data = {"train": fold.train, "validation": fold.validation, "test": measures.test}
        own = identity_of_run(fold.model, fold.optimizer, options, measures, data, engine)
        identity |= own if place == 0 else {f"fold {place}: {name}": value for name, value in own.items()}
    identity["folds"] = len(folds)
    identity["scheduler"] = "none" if scheduler is None else getattr(type(scheduler), "__name__", "")
    return identity


def _joined(states: Sequence[EngineState]) -> EngineState:
    """Return the states of all folds as one; names begin with the number of the fold."""

    def named(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {f"{place}.{name}": one for place, part in enumerate(parts) for name, one in part.items()}

    kept = [state.kept for state in states if state.kept is not None]
    return EngineState(
        states[0].step,
        named([state.parameters for state in states]),
        named(kept) if kept else None,
        {str(place): state.optimizer for place, state in enumerate(states)},
    )


def _of_fold(state: EngineState, place: int) -> EngineState:
    """Return the state of one fold of those that `_joined` has joined."""

    def own(named: dict[str, Tensor]) -> dict[str, Tensor]:
        prefix = f"{place}."
        return {name.removeprefix(prefix): one for name, one in named.items() if name.startswith(prefix)}

    kept = None if state.kept is None else own(state.kept)
    return EngineState(state.step, own(state.parameters), kept, state.optimizer[str(place)])


def _mean(numbers: Iterable[float]) -> float:
    every = list(numbers)
    return math.fsum(every) / len(every)
