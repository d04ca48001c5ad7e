"""The search for the width of a chain: 16, doubled until the chain no longer fills it.

From a small start, a wide chain moves in few of its directions, about twice as many as its final rank (Kwon,
Zhang, Song, Hua, Shi, Qu, Kim & Choi, "Efficient Compression of Overparameterized Deep Models through
Low-Dimensional Learning Dynamics", AISTATS 2024; Yaras, Wang, Balzano & Qu, "Compressible Dynamics in Deep
Overparameterized Low-Rank Learning & Adaptation", ICML 2024). A narrow chain that starts along the leading
ones (`dmf_fast.completion.spectral.spectral_factors`) takes the same path in a fraction of the time, unless
it is too narrow. That can be seen: the smaller half of its singular values then grows too, and the run is
abandoned for one of twice the width.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from dmf_fast.completion.completed import CompletedMatrix, WidthTrial
from dmf_fast.completion.options import CompletionOptions
from dmf_fast.completion.spectral import product_directions
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.sharding import WHOLE, RowSharding
from dmf_fast.training import Callback, Progress
from dmf_fast.training.history import Row

FIRST_WIDTH = 16
MOST_TAIL_SHARE = 0.01
"""`tail_share` above which a chain counts as too narrow.

If it stays below, products end within a few percent of those of full width (`dmf-fast reproduce widths`).
"""
MOVED = 0.5
"""Part of the loss that is left when singular values are inspected first: at the start they are all alike."""
_AT_START = 1.001  # times the start: smaller values count as not grown
# They are inspected again whenever the loss has fallen to this fraction of its value at the last inspection,
# and at the end of a run only if it has fallen this far at all.
_INSPECTED_AGAIN = 0.9


def find_width(
    shape: tuple[int, int],
    options: CompletionOptions,
    callbacks: Sequence[Callback],
    train: Callable[[CompletionOptions, WidthWatch, str], CompletedMatrix],
    sharding: RowSharding = WHOLE,
) -> CompletedMatrix:
    """Train chains, each twice as wide as the one before, until one is wide enough, and return it.

    If a callback, Ctrl-C or the time limit ends the search, the width that was trained last is returned.

    Args:
        shape: ``(m, n)``.
        options: of the job, with an automatic width.
        callbacks: of the user.
        train: completes the matrix, given options, a watch as the only callback, and a name for checkpoints.
        sharding: of the rows.

    """
    begun, trials = time.perf_counter(), list[WidthTrial]()
    for width in _widths(shape):
        fit = options.fit
        if fit.max_seconds is not None:
            left = fit.max_seconds - (time.perf_counter() - begun)
            if trials and sharding.any_wants(left <= 0):
                break
            fit = replace(fit, max_seconds=max(0.0, left))
        job = replace(options, hidden=width, initialization="spectral", fit=fit)
        watch = WidthWatch(callbacks, options.small_scale, sharding, can_give_up=width < min(shape))
        completed = train(job, watch, f"width-{width}")
        if not watch.gives_up:
            watch.inspect_end(completed)
        trials.append(WidthTrial(width, watch.tail_share, completed.steps, completed.seconds))
        is_over = watch.is_stopped or completed.interrupted or completed.diverged
        if is_over or not watch.is_too_narrow:
            break
    return replace(completed, options=options, widths=tuple(trials))


def tail_share(singular_values: Tensor, start: float = 0.0) -> float:
    """Return the share of the nuclear norm in the smaller half of the singular values, in descending order.

    The size that they have at the ``start``, where all are equal up to rounding, is subtracted.

    >>> from torch import tensor
    >>> tail_share(tensor([3.0, 1.0])), tail_share(tensor([3.0, 1.0]), start=1.0)
    (0.25, 0.0)
    """
    values = (singular_values.double() - _AT_START * start).clamp(min=0)
    total = values.sum().item()
    return values[len(values) // 2 :].sum().item() / total if total else 0.0


def _widths(shape: tuple[int, int]) -> Iterator[int]:
    """Yield widths up to the full one, skipping widths of more than half of it."""
    width = FIRST_WIDTH
    while 2 * width <= min(shape):
        yield width
        width *= 2
    yield min(shape)


class WidthWatch:
    """Calls the user's callbacks, and abandons a run as soon as its width is too small.

    With validation entries, only the best rows count, from which the model may be kept.

    Attributes:
        tail_share: the largest among the states inspected; None before any.
        gives_up: whether a run was abandoned.
        is_stopped: whether a callback of the user ended a run.

    """

    def __init__(
        self, callbacks: Sequence[Callback], start: float, sharding: RowSharding, *, can_give_up: bool
    ) -> None:
        self.tail_share: float | None = None
        self.gives_up = self.is_stopped = False
        self._callbacks, self._start, self._sharding = tuple(callbacks), start, sharding
        self._can_give_up = can_give_up
        self._first: Row | None = None  # of the current run
        self._seen, self._next_loss, self._best = 0, 0.0, math.inf

    @property
    def is_too_narrow(self) -> bool:
        """Whether a state filled its width, and there is a larger one."""
        return self._can_give_up and self.tail_share is not None and self.tail_share > MOST_TAIL_SHARE

    def __call__(self, progress: Progress) -> bool:
        """Return whether the run ends."""
        wishes = [callback(progress) for callback in self._callbacks]
        self.is_stopped |= any(wishes)
        if self._can_give_up and self._counts(progress.rows):
            self._inspect(progress.model)
            self.gives_up = self.is_too_narrow
        return self.is_stopped or self.gives_up

    def inspect_end(self, completed: CompletedMatrix) -> None:
        """Inspect the final state of a job."""
        losses = completed.history["train_loss"]
        if losses and losses[0] and completed.train_loss <= _INSPECTED_AGAIN * losses[0]:
            self._inspect(completed.model)

    def _inspect(self, model: DeepMatrixFactorization) -> None:
        found = tail_share(product_directions(model, self._sharding).values, self._start)
        self.tail_share = max(found, self.tail_share or 0.0)

    def _counts(self, rows: Sequence[Row]) -> bool:
        """Return whether to inspect the last row; a resumed run already has rows."""
        if rows[0] is not self._first:
            self._first, self._seen, self._best = rows[0], 0, math.inf
            self._next_loss = MOVED * (rows[0]["train_loss"] or 0.0)
        fresh, self._seen = rows[self._seen :], len(rows)
        return [self._is_due(row) for row in fresh][-1]

    def _is_due(self, row: Row) -> bool:
        loss, rmse = row["train_loss"], row["validation_rmse"]
        if loss is None or not math.isfinite(loss):
            return False
        if rmse is not None:
            if not rmse < self._best:
                return False
            self._best = rmse
        if loss > self._next_loss:
            return False
        self._next_loss = _INSPECTED_AGAIN * loss
        return True
