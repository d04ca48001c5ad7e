"""A run: the steps of an engine from one recorded row to the next, until it stops."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import torch
from torch import Tensor

from dmf_fast._native import Outcome
from dmf_fast.files.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from dmf_fast.files.packing import form_of
from dmf_fast.files.reading import reading
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.sharding import WHOLE, RowSharding
from dmf_fast.training.best import Best
from dmf_fast.training.course import Course, Request
from dmf_fast.training.engines.protocol import Engine, EngineState
from dmf_fast.training.history import Row
from dmf_fast.training.measures import Measures
from dmf_fast.training.options import FitOptions

StoppedBecause = Literal[
    "steps",
    "train_loss_threshold",
    "gradient_norm_threshold",
    "patience",
    "callback",
    "max_seconds",
    "interrupted",
    "diverged",
]

# Least time between automatic checkpoints, in seconds and in multiples of the time that the last one took.
_SECONDS_A_CHECKPOINT, _TIMES_A_SAVE = 30.0, 50.0

_REASONS: dict[Outcome, StoppedBecause] = {
    Outcome.train_loss_threshold: "train_loss_threshold",
    Outcome.gradient_norm_threshold: "gradient_norm_threshold",
    Outcome.diverged: "diverged",
}


@dataclass(frozen=True)
class Progress:
    """The argument of callbacks, which are called when a row is recorded.

    Attributes:
        step: number of updates made.
        model: the model in the state of the row; for bare factors, a model that shares their memory.
        row: the new row of the history.
        rows: all rows so far, including this one and those before a resume.

    """

    step: int
    model: DeepMatrixFactorization
    row: Row
    rows: Sequence[Row] = ()

    @property
    def factors(self) -> list[Tensor]:
        """Copies of ``[W_1, …, W_N]``."""
        return [factor.detach().clone() for factor in self.model.factors]


Callback = Callable[[Progress], bool | None]


@dataclass
class Run:
    """The state of a run between two steps.

    Attributes:
        engine: makes the steps.
        options: when to stop.
        measures: what a row holds, and when rows are recorded.
        callbacks: called at each row.
        checkpoint: folder for checkpoints, or None.
        identity: what must agree for a run to resume from a checkpoint.
        interrupted: called about ten times a second; returns whether to stop.
        report: called about ten times a second with the number of steps made.
        sharding: of the rows; all processes stop, record and save at the same steps.
        not_native_because: why the engine is not native; None if it is.

    """

    engine: Engine
    options: FitOptions
    measures: Measures
    callbacks: tuple[Callback, ...] = ()
    checkpoint: Path | None = None
    identity: dict[str, Any] = field(default_factory=dict)
    interrupted: Callable[[], bool] = lambda: False
    report: Callable[[int], object] = lambda steps: None
    sharding: RowSharding = WHOLE
    not_native_because: str | None = None
    rows: list[Row] = field(default_factory=list)
    best: Best = field(default_factory=Best)
    seconds_before: float = 0.0
    started: float = field(default_factory=time.perf_counter)
    saved: float = field(default_factory=time.perf_counter)
    _seconds_a_save: float = 0.0
    _checkpoint_is_due: bool = False

    @property
    def seconds(self) -> float:
        """Training time in seconds, including that before a resume."""
        return self.seconds_before + time.perf_counter() - self.started

    def open_checkpoint(self) -> None:
        """Resume from the checkpoint, if there is one."""
        if self.checkpoint is None or not self.sharding.broadcast(has_checkpoint(self.checkpoint)):
            return
        state = load_checkpoint(self.checkpoint, self.identity, self.sharding)
        with reading(self.checkpoint, "a checkpoint of this run", "remove it and start again"):
            saved, fresh = msgspec.convert(state, _Saved), self.engine.state()
            _check_form("parameters", saved.engine.parameters, fresh.parameters)
            if saved.engine.kept is not None:
                _check_form("kept", saved.engine.kept, fresh.parameters)
            if (
                "moments" in fresh.optimizer
            ):  # the state of torch optimizers is unknown before their first step
                _check_form("optimizer", saved.engine.optimizer, fresh.optimizer)
            self.engine.resume(saved.engine)
            _set_generators(saved.generators)
        self.rows, self.seconds_before, self.best = saved.rows, saved.seconds, saved.best

    def train_until_done(self) -> Course[StoppedBecause]:
        """Request steps until there is a reason to stop, and save the final state in the checkpoint."""
        reason = yield from self._steps(self.engine.step)
        while True:
            # A checkpoint holds the state before the row of its step, which a resumed run records again.
            before = _BeforeRow(len(self.rows), self.best, self._generators())
            if reason is not None or self._is_recorded(self.engine.step):
                reason = self._record(reason)
            if self._is_saved(reason):
                self._save(before)
            if self.best.step != before.best.step:
                self.engine.keep()
            if reason is not None:
                return reason
            reason = yield from self._steps(self._next_stop())

    def _next_stop(self) -> int:
        step = self.engine.step
        stops = [self.options.steps, self.measures.recording.next_step(step)]
        every = self.options.checkpoint_every
        if self.checkpoint is not None and every:
            stops.append((step // every + 1) * every)
        return min(stops)

    def _steps(self, until: int) -> Course[StoppedBecause | None]:
        """Request steps until ``until``; return why the run ends there or before, None if it does not."""
        outcome = yield from self._slice(until)
        while outcome == Outcome.paused:
            reason = self._asked_to_stop()
            if reason is not None:
                return _REASONS.get((yield from self._slice(self.engine.step)), reason)
            if self._checkpoint_is_due:
                return None
            outcome = yield from self._slice(until)
        if outcome != Outcome.reached:
            return _REASONS[outcome]
        reason = self._asked_to_stop()
        return "steps" if self.engine.step >= self.options.steps else reason

    def _slice(self, until: int) -> Course[Outcome]:
        before = self.engine.step
        outcome = yield Request(self.engine, until)
        self.report(self.engine.step - before)
        return outcome

    def _asked_to_stop(self) -> StoppedBecause | None:
        """Return why to stop and update whether a checkpoint is due, if either holds in any process."""
        limit = self.options.max_seconds
        now = time.perf_counter()
        wishes = (
            self.interrupted(),
            limit is not None and now - self.started >= limit,
            self.checkpoint is not None
            and now - self.saved >= max(_SECONDS_A_CHECKPOINT, _TIMES_A_SAVE * self._seconds_a_save),
        )
        interrupted, is_late, is_due = map(bool, self.sharding.largest([float(wish) for wish in wishes]))
        self._checkpoint_is_due = is_due and self.options.checkpoint_every is None
        return "interrupted" if interrupted else "max_seconds" if is_late else None

    def _is_recorded(self, step: int) -> bool:
        return self.measures.recording.next_step(step - 1) == step

    def _record(self, reason: StoppedBecause | None) -> StoppedBecause | None:
        row = self.measures.row(self.engine, self.engine.step, self.seconds)
        self.rows.append(row)
        first_loss = self.rows[0]["train_loss"]
        self.best = self.best.after(row, first_loss or 0.0, patience_after=self.options.patience_after)
        answer = self._call(row)
        if reason is None and answer is not None:
            return answer
        patience = self.options.patience
        if reason is None and patience is not None and self.best.is_over(patience):
            return "patience"
        return reason

    def _call(self, row: Row) -> StoppedBecause | None:
        """Call the callbacks; return why to stop, if a callback of any process asks for it."""
        stops = interrupted = False
        try:
            if self.callbacks:
                progress = Progress(self.engine.step, self.engine.model(), row, self.rows)
                stops = any([callback(progress) for callback in self.callbacks])
        except KeyboardInterrupt:
            interrupted = True
        stops, interrupted = map(bool, self.sharding.largest([float(stops), float(interrupted)]))
        return "interrupted" if interrupted else "callback" if stops else None

    def _is_saved(self, reason: StoppedBecause | None) -> bool:
        if self.checkpoint is None or reason == "diverged":
            return False
        every = self.options.checkpoint_every
        if every is None:
            due = self._checkpoint_is_due
        else:
            due = every > 0 and self.engine.step > 0 and self.engine.step % every == 0
        return reason is not None or due

    def _save(self, before: _BeforeRow) -> None:
        assert self.checkpoint is not None
        began = time.perf_counter()
        state = {
            "engine": vars(self.engine.state()),
            "rows": self.rows[: before.rows],
            "best": vars(before.best),
            "seconds": self.seconds,
            "generators": before.generators,
        }
        save_checkpoint(self.checkpoint, self.identity, state, self.sharding)
        self.saved, self._checkpoint_is_due = time.perf_counter(), False
        self._seconds_a_save = self.saved - began

    def _generators(self) -> dict[str, Tensor]:
        """Return the states of torch's generators, which callbacks may use; empty without a seed."""
        if self.checkpoint is None or self.options.seed is None:
            return {}
        return {"cpu": torch.get_rng_state()} | {
            f"cuda:{place}": torch.cuda.get_rng_state(place) for place in range(_gpus())
        }


class _Saved(msgspec.Struct):
    """The contents of a checkpoint."""

    engine: EngineState
    rows: list[Row]
    best: Best
    seconds: Annotated[float, msgspec.Meta(ge=0)]
    generators: dict[str, Tensor]


def _check_form(name: str, saved: Any, fresh: Any) -> None:
    """Raise a `ValueError` if a saved state has other names, types or shapes than that of the run."""
    if form_of(saved) != form_of(fresh):
        raise ValueError(f"{name} does not match the run")


class _BeforeRow(NamedTuple):
    """What recording a row may change: the number of rows, the best one, and the generators."""

    rows: int
    best: Best
    generators: dict[str, Tensor]


def _gpus() -> int:
    initialized: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return torch.cuda.device_count() if initialized else 0


def _set_generators(states: dict[str, Tensor]) -> None:
    for device, state in states.items():
        if device == "cpu":
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, device)
