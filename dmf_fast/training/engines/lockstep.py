"""Several engines that make their steps in lockstep, as one."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence

from torch import Tensor

from dmf_fast._native import Outcome
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.sharding import WHOLE, RowSharding
from dmf_fast.training.engines.protocol import Engine, EngineState


class LockstepEngine:
    """One engine per fold, combined into one; see `Engine` for the methods."""

    def __init__(
        self,
        engines: Sequence[Engine],
        validations: Sequence[Observations | None],
        thresholds: tuple[float, float],
        sharding: RowSharding = WHOLE,
    ) -> None:
        """Combine engines without thresholds of their own; ``thresholds`` apply to the means over folds.

        ``sharding`` is that of the rows of all folds; all processes pause at the same step.
        """
        self._sharding = sharding
        self._engines, self._validations, self._thresholds = engines, validations, thresholds
        self.name = engines[0].name

    def run(self, until: int, *, most_seconds: float) -> Outcome:
        """Make updates until step ``until``, a stopping criterion or the time limit; see `Engine.run`."""
        deadline = time.perf_counter() + most_seconds
        looks = max(self._thresholds) >= 0
        while True:
            outcome = self._all_to(min(self.step + 1, until) if looks else until, deadline)
            if outcome == Outcome.reached and looks:
                outcome = self._ending()
            if outcome != Outcome.reached or self.step >= until:
                return outcome
            if self._sharding.any_wants(time.perf_counter() > deadline):
                return Outcome.paused

    def _all_to(self, until: int, deadline: float) -> Outcome:
        """Bring all engines to the same step: ``until``, or an earlier one if the time is over."""
        for engine in self._engines:
            left = max(0.0, deadline - time.perf_counter())
            outcome = engine.run(until, most_seconds=left)
            if outcome == Outcome.paused:  # the engines after it need not go further
                until = engine.step
            elif outcome != Outcome.reached:
                return outcome
        for engine in self._engines:
            if engine.step > until:
                return self._all_to(engine.step, math.inf)
        return Outcome.reached

    def _ending(self) -> Outcome:
        """Return the outcome by the stopping criteria of the means."""
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
        """Mean of the mean squared residuals of the folds."""
        return _mean(engine.loss for engine in self._engines)

    @property
    def gradient_norm(self) -> float:
        """Mean of the gradient norms of the folds."""
        return _mean(engine.gradient_norm for engine in self._engines)

    def mean_squared_error(self, observations: Observations) -> float:
        """Return the mean over the folds; validation entries of the first fold stand for those of each."""
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
        """Restore a state returned by `state`."""
        for place, engine in enumerate(self._engines):
            engine.resume(_of_fold(state, place))

    def finish(self, *, best: bool) -> None:
        """Set all models to the kept or the present parameters."""
        for engine in self._engines:
            engine.finish(best=best)


def _joined(states: Sequence[EngineState]) -> EngineState:
    """Return the states of all folds as one, with names prefixed by the number of the fold."""

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
    """Return the state of one fold from a state joined by `_joined`."""

    def own(named: dict[str, Tensor]) -> dict[str, Tensor]:
        prefix = f"{place}."
        return {name.removeprefix(prefix): one for name, one in named.items() if name.startswith(prefix)}

    kept = None if state.kept is None else own(state.kept)
    return EngineState(state.step, own(state.parameters), kept, state.optimizer[str(place)])


def _mean(numbers: Iterable[float]) -> float:
    every = list(numbers)
    return math.fsum(every) / len(every)
