"""How long a refit trains on all entries."""

from __future__ import annotations

import math
from dataclasses import replace

from dmf_fast.completion.search import PhaseRun
from dmf_fast.completion.starts import Prepared, Start
from dmf_fast.training import FitOptions, Progress
from dmf_fast.training.errors import mean_squared_error

# Of the train loss above its least so far, which is more than a step that was too long.
_RISE = 1.05


def refit_options(
    options: FitOptions, before: PhaseRun, start: Start, whole: Prepared, *, decays: bool
) -> FitOptions:
    """Return how long to train on all entries: as closely as the best step of the search fitted its own.

    The loss tells how far a run has come better than the number of steps, whose lengths depend on the data.
    The loss of a batch would not, nor that of deep factors with a decay (``decays``), which rises again.
    """
    options = replace(options, train_loss_threshold=None, patience=None)
    if options.batches > 1 or decays:
        return replace(options, steps=before.steps)
    loss = mean_squared_error(start.model, whole.train)
    return replace(
        options, steps=before.steps + before.steps // 4, train_loss_threshold=before.loss_ratio * loss
    )


class Turn:
    """Ends a run where the train loss falls again after it has risen, in the second half of its steps.

    From a deep spectral start it falls while directions grow, rises while the decay drops those of noise,
    and then falls for good, as the rest is fitted too closely. How many steps that takes depends on the data.
    """

    def __init__(self, steps: int) -> None:
        self.is_passed = False
        self._earliest, self._seen = steps // 2, 0
        self._lowest, self._has_risen, self._last = math.inf, False, math.inf

    def __call__(self, progress: Progress) -> bool:
        """Say whether the run ends, given its rows so far."""
        for row in progress.rows[self._seen :]:
            loss = row["train_loss"] or 0.0
            falls, self._last = loss < self._last, loss
            self._lowest = min(self._lowest, loss)
            self._has_risen |= loss > _RISE * self._lowest
            if (row["step"] or 0) >= self._earliest and self._has_risen and falls:
                self.is_passed = True
        self._seen = len(progress.rows)
        return self.is_passed
