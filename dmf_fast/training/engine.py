"""What makes the steps of `descend`: what every engine offers, and which one a problem gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from dmf_fast._native import Outcome, Part
from dmf_fast.observations import Observations
from dmf_fast.training.descent_options import DescentOptions

MOMENTS = (Part.first_moment, Part.second_moment)
_NEVER = -1.0


@dataclass(frozen=True)
class EngineState:
    """All that changes from step to step, with which a run goes on bit for bit.

    Attributes:
        step: updates made so far.
        square_average: of GroupRMSprop, else 0.
        factors: ``[W_1, …, W_N]``.
        moments: for every moment that the rule keeps, tensors like the factors.

    """

    step: int
    square_average: float
    factors: list[Tensor]
    moments: list[list[Tensor]]


class Engine(Protocol):
    """A run of gradient descent amid its steps."""

    def run(self, until: int, *, most_seconds: float) -> Outcome:
        """Make updates until ``until`` are made in all, a stop rule holds or about so much time is over.

        It pauses only before ``until``: there loss and gradient norm are always those of the last update.
        """

    @property
    def step(self) -> int:
        """Updates made so far."""

    @property
    def loss(self) -> float:
        """Weighted mean of the squared residuals of the present factors, where the run has not paused."""

    @property
    def gradient_norm(self) -> float:
        """Norm of all gradients together, where the run has not paused."""

    def factors(self) -> list[Tensor]:
        """Return copies of ``[W_1, …, W_N]``."""

    def state(self) -> EngineState:
        """Return copies of all that changes from step to step."""

    def go_on_from(self, state: EngineState) -> None:
        """Take up a state that `state` has returned."""


def thresholds(options: DescentOptions) -> tuple[float, float]:
    """Return the thresholds of train loss and gradient norm as the kernels take them: below 0 never.

    >>> thresholds(DescentOptions(train_loss_threshold=1e-6))
    (1e-06, -1.0)
    """
    given = (options.train_loss_threshold, options.gradient_norm_threshold)
    loss, norm = (_NEVER if threshold is None else threshold for threshold in given)
    return loss, norm


def loss_scale(train: Observations, options: DescentOptions) -> float:
    """Return what the sum of the squared residuals is multiplied with before it is minimised.

    >>> loss_scale(Observations([0, 1], [0, 1], [1.0, 2.0]), DescentOptions(reduction="sum"))
    1.0
    """
    return 1.0 / train.total_weight if options.reduction == "mean" else 1.0
