"""What every engine offers: the steps of a run, and the parameters between two of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from dmf_fast._native import Outcome
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.training.options import FitOptions

_NEVER = -1.0


@dataclass(frozen=True)
class EngineState:
    """All that changes from step to step, with which a run resumes bit for bit.

    Attributes:
        step: updates made so far.
        parameters: factors and biases by name, as the engine keeps them.
        kept: those of the best step so far, or None before the first.
        optimizer: what the update rule keeps, in values that a checkpoint takes.

    """

    step: int
    parameters: dict[str, Tensor]
    kept: dict[str, Tensor] | None
    optimizer: dict[str, Any]


class Engine(Protocol):
    """A run of gradient descent between two of its steps."""

    name: str

    def run(self, until: int, *, most_seconds: float) -> Outcome:
        """Make updates until ``until`` are made in all, a stop rule holds or about so much time is over.

        It pauses only before ``until``: there loss and gradient norm are always those of the last update.
        """

    @property
    def step(self) -> int:
        """Updates made so far."""

    @property
    def loss(self) -> float:
        """Weighted mean of the squared residuals of the present parameters, where the run has not paused."""

    @property
    def gradient_norm(self) -> float:
        """Norm of all gradients together, where the run has not paused."""

    def mean_squared_error(self, observations: Observations) -> float:
        """Return the weighted mean of the squared residuals of the present parameters on other entries."""

    def model(self) -> DeepMatrixFactorization:
        """Return the model that is trained, after the present parameters were written into it."""

    def keep(self) -> None:
        """Keep a copy of the present parameters, in place of an earlier one."""

    def state(self) -> EngineState:
        """Return copies of all that changes from step to step."""

    def resume(self, state: EngineState) -> None:
        """Take up a state that `state` has returned."""

    def finish(self, *, best: bool) -> None:
        """Leave the model with the kept (``best``) or present parameters, the optimizer with its state."""


def thresholds(options: FitOptions) -> tuple[float, float]:
    """Return the thresholds of train loss and gradient norm as the kernels take them: below 0 never.

    >>> thresholds(FitOptions(train_loss_threshold=1e-6))
    (1e-06, -1.0)
    """
    given = (options.train_loss_threshold, options.gradient_norm_threshold)
    loss, norm = (_NEVER if threshold is None else threshold for threshold in given)
    return loss, norm


def loss_scale(train: Observations, options: FitOptions) -> float:
    """Return what the sum of the squared residuals is multiplied with before it is minimized.

    >>> loss_scale(Observations([0, 1], [0, 1], [1.0, 2.0]), FitOptions(reduction="sum"))
    1.0
    """
    return 1.0 / train.total_weight if options.reduction == "mean" else 1.0
