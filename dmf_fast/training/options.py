"""How long and how `fit` trains."""

from __future__ import annotations

from dataclasses import dataclass

from dmf_fast.checks import settle_not_negative, settle_whole_number
from dmf_fast.ops.functional import Reduction


@dataclass(frozen=True)
class FitOptions:
    """Options of `dmf_fast.training.fit`; None switches off what it stands for.

    Attributes:
        steps: most updates.
        reduction: of the loss that is minimised, ``"mean"`` or ``"sum"``.
        train_loss_threshold: stop as soon as the *mean* train loss is at most this; looked at in every step.
            With batches it is, as in the history, the loss of the part that the step sees.
        patience: stop after so many evaluations in a row without a better validation RMSE.
        evaluate_every: steps between evaluations, each of them a row of the history.
        record_singular_values: how many of the largest singular values each row has (at most ``min(m, n)``).
        gradient_clip: largest norm of all gradients together.
        seed: of the batches (0 where it is None), and of torch's generator while `fit` runs, for callbacks
            that draw; None leaves that alone.
        progress: a bar on standard error: True, False, or None for only where that is a terminal.
        checkpoint_every: steps between checkpoints; without it there is one at the end.
        max_seconds: stop after so many seconds of this call.
        batches: number of parts of the training entries that steps take in turn, see
            `dmf_fast.training.batches.Batches`; 1 for all entries in every step.

    Raises:
        ValueError: an option is out of range.
        TypeError: a number is not one, or a whole number not whole.

    Example:
        >>> FitOptions(steps=100, train_loss_threshold=1e-6).evaluate_every
        100

    """

    steps: int = 10_000
    reduction: Reduction = "mean"
    train_loss_threshold: float | None = None
    patience: int | None = None
    evaluate_every: int = 100
    record_singular_values: int = 0
    gradient_clip: float | None = None
    seed: int | None = None
    progress: bool | None = None
    checkpoint_every: int | None = None
    max_seconds: float | None = None
    batches: int = 1

    def __post_init__(self) -> None:
        settle_whole_number(self, "steps", least=0)
        settle_whole_number(self, "batches", least=1)
        settle_whole_number(self, "evaluate_every", least=1)
        settle_whole_number(self, "record_singular_values", least=0)
        settle_whole_number(self, "patience", least=1)
        settle_whole_number(self, "checkpoint_every", least=1)
        settle_whole_number(self, "seed", least=0)
        if self.reduction not in ("mean", "sum"):
            raise ValueError(f'reduction must be "mean" or "sum", but {self.reduction!r} came.')
        settle_not_negative(self, "train_loss_threshold", "gradient_clip", "max_seconds")
        if self.gradient_clip == 0:
            raise ValueError("gradient_clip must be above 0, or None for no clipping, but 0 came.")
