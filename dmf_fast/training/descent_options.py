"""How long `descend` goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dmf_fast.checks import settle_not_negative, settle_whole_number
from dmf_fast.ops.functional import Reduction

DescentStoppedBecause = Literal[
    "steps",
    "train_loss_threshold",
    "gradient_norm_threshold",
    "patience",
    "callback",
    "max_seconds",
    "interrupted",
    "diverged",
]


@dataclass(frozen=True)
class DescentOptions:
    """Options of `dmf_fast.training.descend`; None switches off what it stands for.

    Attributes:
        steps: most steps.
        reduction: of the loss that is minimised, ``"mean"`` or ``"sum"``.
        train_loss_threshold: stop as soon as the *mean* train loss is at most this; looked at in every step.
        gradient_norm_threshold: stop as soon as the norm of all gradients together is at most this; looked at
            in every step.
        patience: stop after so many recorded rows in a row without a better validation RMSE.
        max_seconds: stop after so many seconds of this call.
        checkpoint_every: steps between checkpoints, where there is a folder for them; None for one about
            every 30 seconds. There is one at the end in any case.
        progress: a bar on standard error: True, False, or None for only where that is a terminal.

    Raises:
        ValueError: an option is out of range.
        TypeError: a number is not one, or a whole number not whole.

    Example:
        >>> DescentOptions(steps=1_000_000, train_loss_threshold=1e-6).reduction
        'mean'

    """

    steps: int = 100_000
    reduction: Reduction = "mean"
    train_loss_threshold: float | None = None
    gradient_norm_threshold: float | None = None
    patience: int | None = None
    max_seconds: float | None = None
    checkpoint_every: int | None = None
    progress: bool | None = None

    def __post_init__(self) -> None:
        settle_whole_number(self, "steps", least=0)
        settle_whole_number(self, "patience", least=1)
        settle_whole_number(self, "checkpoint_every", least=1)
        if self.reduction not in ("mean", "sum"):
            raise ValueError(f'reduction must be "mean" or "sum", but {self.reduction!r} came.')
        settle_not_negative(self, "train_loss_threshold", "gradient_norm_threshold", "max_seconds")
