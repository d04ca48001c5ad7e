"""How long a refit trains on all entries."""

from __future__ import annotations

import math
from dataclasses import replace

from dmf_fast.completion.lbfgs import is_fast
from dmf_fast.completion.options import CompletionOptions
from dmf_fast.completion.search import PhaseRun
from dmf_fast.completion.starts import Prepared, Start
from dmf_fast.training import FitOptions, Progress
from dmf_fast.training.errors import mean_squared_error

# A rise of the training loss above its minimum, beyond what a single long step causes.
_RISE = 1.05
_STEPS_OF_LBFGS = 1


def refit_options(
    fit: FitOptions, before: PhaseRun, start: Start, whole: Prepared, options: CompletionOptions
) -> tuple[FitOptions, Turn | None]:
    """Return the options of the training on all entries, and a callback that may end it.

    A phase of L-BFGS continues from the search, which had nearly all entries: one step adds the others.
    Gradient descent starts over, until it fits as closely as the best step of the search. The training loss
    relative to its start is a better criterion than the number of steps, whose lengths depend on the data.
    With batches, and for deep factors with a decay, whose loss rises again, it is not: these runs make the
    same number of steps.
    """
    fit, phase = replace(fit, train_loss_threshold=None, patience=None), before.phase
    if is_fast(phase, options):
        return replace(fit, steps=min(fit.steps, _STEPS_OF_LBFGS)), None
    decays = phase.depth > 2 and options.weight_decay > 0
    turns = decays and options.has_spectral_phases and phase.start == "spectral" and options.fit.batches == 1
    turn = Turn(before.steps) if turns else None
    if fit.batches > 1 or decays:
        return replace(fit, steps=before.steps), turn
    loss = mean_squared_error(start.model, whole.train)
    threshold = before.loss_ratio * loss
    return replace(fit, steps=before.steps + before.steps // 4, train_loss_threshold=threshold), None


class Turn:
    """Ends a run when the training loss falls again after a rise, in the second half of its steps.

    From a deep spectral start, the loss falls while directions grow, rises while the decay removes those of
    noise, and then falls for good, as the model overfits. How many steps that takes depends on the data.
    """

    def __init__(self, steps: int) -> None:
        self.is_passed = False
        self._earliest, self._seen = steps // 2, 0
        self._lowest, self._has_risen, self._last = math.inf, False, math.inf

    def __call__(self, progress: Progress) -> bool:
        """Return whether the run ends, given its rows so far."""
        for row in progress.rows[self._seen :]:
            loss = row["train_loss"] or 0.0
            falls, self._last = loss < self._last, loss
            self._lowest = min(self._lowest, loss)
            self._has_risen |= loss > _RISE * self._lowest
            if (row["step"] or 0) >= self._earliest and self._has_risen and falls:
                self.is_passed = True
        self._seen = len(progress.rows)
        return self.is_passed
