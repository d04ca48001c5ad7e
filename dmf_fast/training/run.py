"""The steps of a run, between a start or a checkpoint and the reason why it ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from dmf_fast.files.checkpoint import TrainingState, has_checkpoint, load_checkpoint, save_checkpoint
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.training.batches import Batches
from dmf_fast.training.best import Best
from dmf_fast.training.history import Measures, Row
from dmf_fast.training.identity import identity_of_run
from dmf_fast.training.interrupt import DeferredInterrupt
from dmf_fast.training.options import FitOptions
from dmf_fast.training.recording import Recording

StoppedBecause = Literal[
    "steps", "train_loss_threshold", "patience", "callback", "max_seconds", "interrupted", "diverged"
]


@dataclass(frozen=True)
class Progress:
    """What a callback sees at an evaluation: updates made, the model, and the new row of the history."""

    step: int
    model: DeepMatrixFactorization
    row: Row


Callback = Callable[[Progress], bool | None]


class _BeforeEvaluation(NamedTuple):
    """What an evaluation changes: the number of rows, the best, and the generators if a callback draws."""

    rows: int
    best: Best
    generators: dict[str, Tensor]


@dataclass
class Run:
    """A run amid its steps: ``step`` updates are made."""

    model: DeepMatrixFactorization
    train: Observations
    batches: Batches
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler | None
    options: FitOptions
    recording: Recording
    measures: Measures
    callbacks: tuple[Callback, ...]
    checkpoint: Path | None
    step: int = 0
    rows: list[Row] = field(default_factory=list)
    best: Best = field(default_factory=Best)
    identity: dict[str, Any] = field(default_factory=dict)
    seconds_before: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Of training, those before a resume included."""
        return self.seconds_before + time.perf_counter() - self.started

    @property
    def gpus(self) -> list[torch.device]:
        """The device of the model, where it has a random generator of its own."""
        device = self.model.mean.device
        return [device] if device.type == "cuda" else []

    def open_checkpoint(self) -> None:
        """Go on from the checkpoint, where there is one."""
        if self.checkpoint is None:
            return
        data = {"train": self.train, "validation": self.measures.validation, "test": self.measures.test}
        self.identity = identity_of_run(self.model, self.optimizer, self.options, data)
        self.identity |= asdict(self.recording)
        self.identity["scheduler"] = "none" if self.scheduler is None else type(self.scheduler).__name__
        if not has_checkpoint(self.checkpoint):
            return
        state = load_checkpoint(self.checkpoint, self.identity)
        self.model.load_state_dict(state.model)
        _load_optimizer(self.optimizer, state.optimizer)
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state.scheduler)
        if state.generators:
            torch.set_rng_state(state.generators["cpu"])
            for gpu in self.gpus:
                torch.cuda.set_rng_state(state.generators["cuda"], gpu)
        self.step, self.rows, self.seconds_before = state.step, state.rows, state.seconds
        self.best = Best(state.best_step, state.best_rmse, state.best_model, state.evaluations_since_best)

    def train_until_done(self) -> StoppedBecause:
        """Make steps until there is a reason to stop, and keep the state of then in the checkpoint."""
        first_step = self.step
        with DeferredInterrupt() as interrupt, self._bar() as bar:
            while True:
                # A checkpoint holds a step before its evaluation, which a resumed run repeats.
                before = _BeforeEvaluation(len(self.rows), self.best, self._generators())
                every = self.options.checkpoint_every
                if every and self.step % every == 0 and self.step > first_step:
                    self._save(before)
                with torch.set_grad_enabled(self.step < self.options.steps):
                    batch = self.batches.at(self.step)
                    loss = self.model.loss(batch, self.options.reduction)
                reason = self._evaluate(loss, batch, interrupt, bar)
                if reason is not None:
                    break
                self._update(loss)
                self.step += 1
                bar.update()
        if self.checkpoint is not None and reason != "diverged":
            self._save(before)
        return reason

    def _update(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.options.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.gradient_clip)
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()

    def _evaluate(
        self, loss: Tensor, batch: Observations, interrupt: DeferredInterrupt, bar: Any
    ) -> StoppedBecause | None:
        """Record a row where one is due, and say whether and why the run ends here."""
        last = self.step >= self.options.steps
        due = last or self.recording.next_step(self.step - 1) == self.step
        reason: StoppedBecause | None = None
        if interrupt.requested:
            reason = "interrupted"
        elif self._time_is_up():
            reason = "max_seconds"
        threshold = self.options.train_loss_threshold
        if not due and reason is None and threshold is None:
            return None  # without reading the loss, for which a GPU would have to wait
        train_loss = loss.item()
        if self.options.reduction == "sum":
            train_loss /= batch.total_weight
        if not math.isfinite(train_loss):
            reason = "diverged"
        elif threshold is not None and train_loss <= threshold:
            reason = "train_loss_threshold"
        elif last:
            reason = "steps"
        return self._record(train_loss, reason, bar) if due or reason is not None else None

    def _time_is_up(self) -> bool:
        limit = self.options.max_seconds
        return limit is not None and time.perf_counter() - self.started >= limit

    def _record(self, train_loss: float, reason: StoppedBecause | None, bar: Any) -> StoppedBecause | None:
        row = self.measures.row(self.model, self.step, self.seconds, train_loss)
        self.rows.append(row)
        self.best = self.best.after(row, self.model.state_dict)
        shown = {"loss": train_loss, "validation": row["validation_rmse"]}
        bar.set_postfix({name: value for name, value in shown.items() if value is not None}, refresh=False)
        try:
            answers = [callback(Progress(self.step, self.model, row)) for callback in self.callbacks]
        except KeyboardInterrupt:
            return reason or "interrupted"
        if reason is None and any(answers):
            return "callback"
        patience = self.options.patience
        if reason is None and patience is not None and self.best.evaluations_since >= patience:
            return "patience"
        return reason

    def _bar(self) -> Any:
        # tqdm's None: only where standard error is a terminal.
        hidden = None if self.options.progress is None else not self.options.progress
        return tqdm(total=self.options.steps, initial=self.step, unit="step", disable=hidden)

    def _save(self, before: _BeforeEvaluation) -> None:
        assert self.checkpoint is not None
        best = before.best
        state = TrainingState(
            identity=self.identity,
            step=self.step,
            seconds=self.seconds,
            rows=self.rows[: before.rows],
            best_step=best.step,
            best_rmse=best.rmse,
            best_model=best.model,
            evaluations_since_best=best.evaluations_since,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scheduler={} if self.scheduler is None else self.scheduler.state_dict(),
            generators=before.generators,
        )
        save_checkpoint(self.checkpoint, state)

    def _generators(self) -> dict[str, Tensor]:
        if self.checkpoint is None or self.options.seed is None:
            return {}
        states = {"cpu": torch.get_rng_state()}
        for gpu in self.gpus:
            states["cuda"] = torch.cuda.get_rng_state(gpu)
        return states


def _load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load ``saved`` with the dtypes that it has: torch itself rounds all to those of the parameters."""
    optimizer.load_state_dict(saved)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for place, kept in saved["state"].items():
        state = optimizer.state[parameters[place]]
        tensors = {name: value for name, value in kept.items() if isinstance(value, Tensor)}
        state.update({name: value.to(state[name].device) for name, value in tensors.items()})
