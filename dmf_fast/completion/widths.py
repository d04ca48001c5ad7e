"""The width of a chain, found: the narrowest that ends as the chain of full width does.

From a small start a wide chain moves in few of its directions, about twice as many as the rank it ends at
(Kwon, Zhang, Song, Hua, Shi, Qu, Kim & Choi, "Efficient Compression of Overparameterized Deep Models through
Low-Dimensional Learning Dynamics", AISTATS 2024; Yaras, Wang, Balzano & Qu, "Compressible Dynamics in Deep
Overparameterized Low-Rank Learning & Adaptation", ICML 2024). A narrow chain that starts in the leading ones
(`spectral_factors`) goes the same way in a fraction of the time, unless its width binds. That shows: then the
smaller half of its singular values grows too, and the run is given up for one of twice the width.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dmf_fast.chain import chain_product
from dmf_fast.completion.completed import CompletedMatrix, WidthTrial
from dmf_fast.completion.options import CompletionOptions
from dmf_fast.completion.spectral import product_directions
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.sharding import WHOLE, RowSharding, local_part
from dmf_fast.training import Callback, Progress

FIRST_WIDTH = 16
LARGEST_SMALLER_HALF = 0.01
"""Share of the nuclear norm in the smaller half of the singular values, from which on a width binds.

Where it stays below, products end within a few percent of those of full width (`dmf-fast reproduce widths`).
"""
# Near its start a chain has all singular values alike; what they are says something once the loss has fallen
# to this part, or at the end of a run to that. They are looked at again whenever it has fallen so far again.
_MOVED, _LOOK_AGAIN = 0.5, 0.9

Train = Callable[[CompletionOptions, Callback, str], CompletedMatrix]
"""Completes a matrix with options, a callback, and a name for its checkpoints."""


def widen_until_enough(
    shape: tuple[int, int], options: CompletionOptions, train: Train, sharding: RowSharding = WHOLE
) -> CompletedMatrix:
    """Train chains of twice the width each until one is wide enough, and return that."""
    begun, trials = time.perf_counter(), list[WidthTrial]()
    for width in _widths(shape):
        fit = options.fit
        if fit.max_seconds is not None:
            fit = replace(fit, max_seconds=max(0.0, fit.max_seconds - (time.perf_counter() - begun)))
        watch = _Watch(sharding, can_grow=width < min(shape))
        job = replace(options, hidden=width, initialization="spectral", fit=fit)
        completed = train(job, watch, f"width-{width}")
        ended = completed.interrupted or completed.diverged
        first_loss = completed.history["train_loss"][0].as_py()
        if not (watch.has_ended_run or ended) and completed.train_loss <= _LOOK_AGAIN * first_loss:
            watch.look_at(completed.model)
        trials.append(WidthTrial(width, watch.smaller_half, completed.steps, completed.seconds))
        if ended or not watch.binds:
            break
    return replace(completed, options=options, widths=tuple(trials))


def smaller_half(singular_values: Tensor) -> float:
    """Return the share of the nuclear norm in the smaller half of the singular values, the largest first.

    >>> smaller_half(torch.tensor([3.0, 1.0]))
    0.25
    """
    values = singular_values.double()
    total = values.sum().item()
    return values[len(values) // 2 :].sum().item() / total if total else 0.0


def relative_distance(one: DeepMatrixFactorization, other: DeepMatrixFactorization) -> float:
    """Return ``‖W − V‖_F / ‖V‖_F`` for the products of two models, which are not formed; biases are left out.

    >>> models = [DeepMatrixFactorization.of_factors([torch.full((1, 1), size)]) for size in (3.0, 2.0)]
    >>> relative_distance(*models)
    0.5
    """
    (first, last), (other_first, other_last) = _two_factors(one), _two_factors(other)
    difference = [torch.cat([first, other_first]), torch.cat([last, -other_last], dim=1)]
    return _norm(difference) / _norm([other_first, other_last])


def _two_factors(model: DeepMatrixFactorization) -> tuple[Tensor, Tensor]:
    """Return ``W_1`` and the product of all other factors, float64."""
    first, *others = (local_part(factor.detach()).double() for factor in model.factors)
    return first, chain_product(others) if others else torch.eye(len(first), dtype=first.dtype)


def _norm(factors: Sequence[Tensor]) -> float:
    values = product_directions(DeepMatrixFactorization.of_factors(factors)).values
    return values.square().sum().sqrt().item()


def _widths(shape: tuple[int, int]) -> Iterator[int]:
    width = FIRST_WIDTH
    while width < min(shape):
        yield width
        width *= 2
    yield min(shape)


class _Watch:
    """Ends a run as soon as its width binds.

    Where there are validation entries only the best rows count, of which the model may be kept.
    """

    def __init__(self, sharding: RowSharding, *, can_grow: bool) -> None:
        self.smaller_half, self.has_ended_run = 0.0, False
        self._sharding, self._can_grow = sharding, can_grow
        self._next_loss, self._best = 0.0, float("inf")

    @property
    def binds(self) -> bool:
        """Whether the width binds, and may grow."""
        return self._can_grow and self.smaller_half > LARGEST_SMALLER_HALF

    def look_at(self, model: DeepMatrixFactorization) -> None:
        """Take a state of the run into account."""
        if len(model.factors) > 1:  # one factor alone has no width
            values = product_directions(model, self._sharding).values
            self.smaller_half = max(self.smaller_half, smaller_half(values))

    def __call__(self, progress: Progress) -> bool:
        """Say whether the run ends."""
        if not self._can_grow or not self._is_looked_at(progress):
            return False
        self.look_at(progress.model)
        self.has_ended_run = self.binds
        return self.binds

    def _is_looked_at(self, progress: Progress) -> bool:
        row = progress.row
        loss, rmse = row["train_loss"] or 0.0, row["validation_rmse"]
        if len(progress.rows) <= 1:  # another run has begun
            self._next_loss, self._best = _MOVED * loss, float("inf")
        if rmse is not None:
            if rmse >= self._best:
                return False
            self._best = rmse
        if loss > self._next_loss or len(progress.rows) <= 1:
            return False
        self._next_loss = _LOOK_AGAIN * loss
        return True
