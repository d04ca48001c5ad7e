"""The course of a run of `descend`: native steps from one recorded row to the next."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from dmf_fast._native import Outcome
from dmf_fast.files.checkpoint import TrainingState, has_checkpoint, load_checkpoint, save_checkpoint
from dmf_fast.training.best import Best
from dmf_fast.training.descent_options import DescentOptions, DescentStoppedBecause
from dmf_fast.training.engine import Engine, EngineState
from dmf_fast.training.factor_measures import FactorMeasures
from dmf_fast.training.history import Row

# A native run comes back this often, for Ctrl-C, the time and the bar.
_SECONDS_A_SLICE = 0.1
_SECONDS_A_CHECKPOINT = 30.0

_REASONS: dict[Outcome, DescentStoppedBecause] = {
    Outcome.train_loss_threshold: "train_loss_threshold",
    Outcome.gradient_norm_threshold: "gradient_norm_threshold",
    Outcome.diverged: "diverged",
}


@dataclass(frozen=True)
class DescentProgress:
    """What a callback sees when a row is recorded: updates made, copies of the factors, the new row."""

    step: int
    factors: list[Tensor]
    row: Row


DescentCallback = Callable[[DescentProgress], bool | None]


@dataclass
class DescentRun:
    """A run amid its steps.

    Attributes:
        engine: makes the steps.
        options: when to stop.
        measures: what a row holds, and when there is one.
        callbacks: called with every row.
        checkpoint: folder for checkpoints, or None.
        identity: what a run must be to go on from one of them.
        interrupted: asked about ten times a second whether to stop.
        advanced: told about ten times a second how many steps were made.

    """

    engine: Engine
    options: DescentOptions
    measures: FactorMeasures
    callbacks: tuple[DescentCallback, ...] = ()
    checkpoint: Path | None = None
    identity: dict[str, Any] = field(default_factory=dict)
    interrupted: Callable[[], bool] = lambda: False
    advanced: Callable[[int], None] = lambda steps: None
    rows: list[Row] = field(default_factory=list)
    best: Best = field(default_factory=Best)
    seconds_before: float = 0.0
    started: float = field(default_factory=time.perf_counter)
    saved: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Of training, those before a resume included."""
        return self.seconds_before + time.perf_counter() - self.started

    def open_checkpoint(self) -> None:
        """Go on from the checkpoint, where there is one."""
        if self.checkpoint is None or not has_checkpoint(self.checkpoint):
            return
        state = load_checkpoint(self.checkpoint, self.identity)
        factors = [state.model[f"factors.{place}"] for place in range(len(state.model))]
        self.engine.go_on_from(EngineState(factors=factors, **state.optimizer))
        self.rows, self.seconds_before = state.rows, state.seconds
        self.best = Best(state.best_step, state.best_rmse, state.best_model, state.evaluations_since_best)

    def train_until_done(self) -> DescentStoppedBecause:
        """Make steps until there is a reason to stop, and keep the state of then in the checkpoint."""
        reason = self._advance(self.engine.step)
        while True:
            # A checkpoint holds a step before its row is recorded, which a resumed run does again.
            rows, best = len(self.rows), self.best
            if reason is not None or self._is_recorded(self.engine.step):
                reason = self._record(reason)
            if self._is_saved(reason):
                self._save(rows, best)
            if reason is not None:
                return reason
            reason = self._advance(self._next_stop())

    def _next_stop(self) -> int:
        step = self.engine.step
        stops = [self.options.steps, self.measures.recording.next_step(step)]
        if self.checkpoint is not None and self.options.checkpoint_every is not None:
            stops.append((step // self.options.checkpoint_every + 1) * self.options.checkpoint_every)
        return min(stops)

    def _advance(self, until: int) -> DescentStoppedBecause | None:
        """Make steps until ``until`` and say whether and why the run ends there, or before."""
        outcome = self._slice(until)
        while outcome == Outcome.paused:
            reason = self._asked_to_stop()
            if reason is not None:
                return _REASONS.get(self._slice(self.engine.step), reason)
            if self._time_for_checkpoint():
                return None
            outcome = self._slice(until)
        if outcome != Outcome.reached:
            return _REASONS[outcome]
        return "steps" if self.engine.step >= self.options.steps else self._asked_to_stop()

    def _slice(self, until: int) -> Outcome:
        before = self.engine.step
        outcome = self.engine.run(until, most_seconds=_SECONDS_A_SLICE)
        self.advanced(self.engine.step - before)
        return outcome

    def _asked_to_stop(self) -> DescentStoppedBecause | None:
        if self.interrupted():
            return "interrupted"
        limit = self.options.max_seconds
        return "max_seconds" if limit is not None and time.perf_counter() - self.started >= limit else None

    def _is_recorded(self, step: int) -> bool:
        return self.measures.recording.next_step(step - 1) == step

    def _record(self, reason: DescentStoppedBecause | None) -> DescentStoppedBecause | None:
        engine, factors = self.engine, self.engine.factors()
        row = self.measures.row(factors, engine.step, self.seconds, engine.loss, engine.gradient_norm)
        self.rows.append(row)
        self.best = self.best.after(row, lambda: _named(factors))
        try:
            answers = [callback(DescentProgress(engine.step, factors, row)) for callback in self.callbacks]
        except KeyboardInterrupt:
            return reason or "interrupted"
        if reason is None and any(answers):
            return "callback"
        patience = self.options.patience
        if reason is None and patience is not None and self.best.evaluations_since >= patience:
            return "patience"
        return reason

    def _is_saved(self, reason: DescentStoppedBecause | None) -> bool:
        if self.checkpoint is None or reason == "diverged":
            return False
        every = self.options.checkpoint_every
        due = self._time_for_checkpoint() if every is None else self.engine.step % every == 0
        return reason is not None or due

    def _time_for_checkpoint(self) -> bool:
        timed = self.checkpoint is not None and self.options.checkpoint_every is None
        return timed and time.perf_counter() - self.saved >= _SECONDS_A_CHECKPOINT

    def _save(self, rows: int, best: Best) -> None:
        assert self.checkpoint is not None
        state = self.engine.state()
        save_checkpoint(
            self.checkpoint,
            TrainingState(
                identity=self.identity,
                step=state.step,
                seconds=self.seconds,
                rows=self.rows[:rows],
                best_step=best.step,
                best_rmse=best.rmse,
                best_model=best.model,
                evaluations_since_best=best.evaluations_since,
                model=_named(state.factors),
                optimizer={
                    "step": state.step,
                    "square_average": state.square_average,
                    "moments": state.moments,
                },
                scheduler={},
                generators={},
            ),
        )
        self.saved = time.perf_counter()


def _named(factors: list[Tensor]) -> dict[str, Tensor]:
    return {f"factors.{place}": factor for place, factor in enumerate(factors)}
