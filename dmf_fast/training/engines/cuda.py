"""What the engines of a GPU share: which runs they take, and how these begin and end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_fast import cuda
from dmf_fast._native import Part, RuleKind
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.optim.native import (
    NotNative,
    OptimizerState,
    native_optimizer,
    read_state,
    write_state,
)
from dmf_fast.optim.spec import OptimizerSpec
from dmf_fast.training.engines.protocol import EngineState
from dmf_fast.training.errors import mean_squared_error
from dmf_fast.training.options import FitOptions

MOMENTS = (Part.first_moment, Part.second_moment)


class CudaEngine(ABC):
    """A run on factors without biases and scales, by one of the published rules."""

    def __init__(
        self,
        model: DeepMatrixFactorization,
        train: Observations,
        optimizer: torch.optim.Optimizer | OptimizerSpec,
        options: FitOptions,
        given: Sequence[Tensor] | None,
    ) -> None:
        """Raise `NotNative` where another engine must make these steps."""
        cuda.check_usable(train.device)
        self._model, self._optimizer = model, optimizer
        self._given = model.parameter_list if given is None else list(given)
        self._native_optimizer = native_optimizer(optimizer, self._given, [])
        if self._native_optimizer.kind == RuleKind.adaptive_gradient_descent:
            raise NotNative("AdaptiveGradientDescent has no native step on a GPU")
        if model.biases or model.mean.item() or model.parameter_scales() is not None:
            raise NotNative("biases, a mean and scaled coordinates have no native step on a GPU")
        if options.gradient_clip is not None:
            raise NotNative("clipped gradients have no native step on a GPU")
        if train.dtype not in (torch.float32, torch.float64):
            raise NotNative(f"{train.dtype} has no native step")
        self._kept: list[Tensor] | None = None
        self._steps_before = 0

    @property
    def step(self) -> int:
        """Updates made so far."""
        return self._known_step - self._steps_before

    def mean_squared_error(self, observations: Observations) -> float:
        """Return the weighted mean of the squared residuals on other entries."""
        return mean_squared_error(self.model(), observations)

    def model(self) -> DeepMatrixFactorization:
        """Return the model with the present parameters."""
        self._write_model(self._parameters())
        return self._model

    def keep(self) -> None:
        """Keep a copy of the present parameters."""
        self._kept = self._parameters()

    def state(self) -> EngineState:
        """Return copies of all that changes from step to step."""
        kept = None if self._kept is None else _named(self._kept)
        optimizer = vars(self._optimizer_state())
        return EngineState(self.step, _named(self._parameters()), kept, optimizer)

    def resume(self, state: EngineState) -> None:
        """Take up a state that `state` has returned."""
        self._kept = None if state.kept is None else list(state.kept.values())
        optimizer = OptimizerState(**state.optimizer)
        self._steps_before = optimizer.steps - state.step
        self._set(list(state.parameters.values()), optimizer)

    def finish(self, *, best: bool) -> None:
        """Leave the model with the kept or the present parameters, the optimizer with its state."""
        if isinstance(self._optimizer, torch.optim.Optimizer):
            write_state(self._optimizer, self._native_optimizer, self._given, self._optimizer_state())
        if best and self._kept is not None:
            self._write_model(self._kept)
        else:
            self._write_model(self._parameters())

    def _take_up_optimizer(self) -> None:
        """Begin where a bound optimizer is that has made steps already."""
        if isinstance(self._optimizer, torch.optim.Optimizer):
            state = read_state(self._optimizer, self._native_optimizer, self._given)
            if state is not None:
                self._steps_before = state.steps
                self._set(None, state)

    @torch.no_grad()
    def _write_model(self, factors: Sequence[Tensor]) -> None:
        for factor, present in zip(self._model.factors, factors, strict=True):
            factor.copy_(present)

    @property
    @abstractmethod
    def _known_step(self) -> int:
        """Updates made so far, those of the optimizer before the run included."""

    @abstractmethod
    def _parameters(self) -> list[Tensor]:
        """Return copies of the factors."""

    @abstractmethod
    def _optimizer_state(self) -> OptimizerState:
        """Return copies of what the rule keeps."""

    @abstractmethod
    def _set(self, parameters: Sequence[Tensor] | None, state: OptimizerState) -> None:
        """Take up other parameters, where they are given, and another state of the rule."""


def _named(factors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"factors.{place}": factor for place, factor in enumerate(factors)}
