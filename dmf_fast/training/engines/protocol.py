"""The interface of engines, which make the steps of a run."""

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
    """All state that changes from step to step, from which a run resumes bit-identically.

    Attributes:
        step: number of updates made.
        parameters: factors and biases by name, in the form of the engine.
        kept: the parameters of the best step so far; None before the first one.
        optimizer: the state of the update rule, in values that a checkpoint can hold.

    """

    step: int
    parameters: dict[str, Tensor]
    kept: dict[str, Tensor] | None
    optimizer: dict[str, Any]


class Measured(Protocol):
    """The state of a run, from which rows are measured."""

    @property
    def loss(self) -> float:
        """Weighted mean squared residual of the present parameters; invalid while the run is paused."""

    @property
    def gradient_norm(self) -> float:
        """Norm of all gradients together; invalid while the run is paused."""

    def mean_squared_error(self, observations: Observations) -> float:
        """Return the weighted mean squared residual of the present parameters on other entries."""

    def model(self) -> DeepMatrixFactorization:
        """Write the present parameters into the model and return it."""


class Engine(Measured, Protocol):
    """Makes the steps of a run, and holds its state between steps."""

    name: str

    def run(self, until: int, *, most_seconds: float) -> Outcome:
        """Make updates until step ``until``, a stopping criterion or about ``most_seconds`` is reached.

        It pauses only before ``until``; at ``until`` the loss and the gradient norm are always up to date.
        """

    @property
    def step(self) -> int:
        """Number of updates made."""

    def keep(self) -> None:
        """Keep a copy of the present parameters, replacing an earlier one."""

    def state(self) -> EngineState:
        """Return a copy of the state."""

    def resume(self, state: EngineState) -> None:
        """Restore a state returned by `state`."""

    def finish(self, *, best: bool) -> None:
        """Set the model to the kept (``best``) or the present parameters, and the optimizer to its state."""


def thresholds(options: FitOptions) -> tuple[float, float]:
    """Return the thresholds of train loss and gradient norm for the kernels; negative means never.

    >>> thresholds(FitOptions(train_loss_threshold=1e-6))
    (1e-06, -1.0)
    """
    given = (options.train_loss_threshold, options.gradient_norm_threshold)
    loss, norm = (_NEVER if threshold is None else threshold for threshold in given)
    return loss, norm


def loss_scale(train: Observations, options: FitOptions) -> float:
    """Return the factor of the sum of squared residuals in the minimized loss.

    >>> loss_scale(Observations([0, 1], [0, 1], [1.0, 2.0]), FitOptions(reduction="sum"))
    1.0
    """
    return 1.0 / train.total_weight if options.reduction == "mean" else 1.0
