"""Base class of engines that compute the update rule themselves instead of calling a torch optimizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from dmf_fast import cuda
from dmf_fast._native import Part, RuleKind
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.optim.native import (
    NativeOptimizer,
    NotNative,
    OptimizerState,
    native_optimizer,
    read_state,
    write_state,
)
from dmf_fast.optim.spec import OptimizerSpec
from dmf_fast.sharding import local_part, placed_as
from dmf_fast.training.engines.protocol import EngineState
from dmf_fast.training.errors import mean_squared_error
from dmf_fast.training.options import FitOptions

MOMENTS = (Part.first_moment, Part.second_moment)
_NAMES_OF_BIASES = ("row_bias", "column_bias")
_CPU_RULES = {
    RuleKind.adaptive_gradient_descent: "AdaptiveGradientDescent",
    RuleKind.preconditioned_lbfgs: "PreconditionedLBFGS",
}


class RuleEngine(ABC):
    """Holds the parameters during a run, and writes them into the model on request.

    The run starts from the state of an optimizer that is bound to parameters, and ends by setting it to the
    state that it would have, had it made the steps itself.

    >>> from dmf_fast.training.engines.native import NativeEngine
    >>> train = Observations([0, 1, 1], [0, 0, 1], [1.0, 2.0, 2.0])
    >>> model = DeepMatrixFactorization.of_factors([torch.eye(2), torch.eye(2)])
    >>> engine = NativeEngine(model, train, OptimizerSpec(torch.optim.SGD, {"lr": 0.1}), FitOptions())
    >>> engine.run(10, most_seconds=60.0).name, engine.step
    ('reached', 10)
    """

    def __init__(
        self,
        model: DeepMatrixFactorization,
        train: Observations,
        optimizer: torch.optim.Optimizer | OptimizerSpec,
        options: FitOptions,
        given: Sequence[Tensor] | None = None,
    ) -> None:
        """Copy the run; see `rule_of` for the arguments and errors."""
        self._rule = self.rule_of(model, train, optimizer, options, given)
        self._model, self._optimizer = model, optimizer
        self._given = model.parameter_list if given is None else list(given)
        self._updates_before = 0  # of the optimizer at the start of the run
        self._set_up(train, options)
        self._begin_with_optimizer()

    @classmethod
    def rule_of(
        cls,
        model: DeepMatrixFactorization,
        train: Observations,
        optimizer: torch.optim.Optimizer | OptimizerSpec,
        options: FitOptions,
        given: Sequence[Tensor] | None,
    ) -> NativeOptimizer:
        """Return the update rule that the engine computes for this run.

        ``given`` are the tensors that a bound optimizer holds.

        Raises:
            NotNative: this engine does not support the run.

        """
        cls._check_problem(model, train, options)
        if train.dtype not in (torch.float32, torch.float64):
            raise NotNative(f"{train.dtype} has no native step")
        if train.sharding.mesh is not None and isinstance(optimizer, torch.optim.Optimizer):
            raise NotNative(
                "an optimizer that is bound to parameters of several processes has no native step"
            )
        if not all(parameter.requires_grad for parameter in model.parameters()):
            raise NotNative("a parameter does not require a gradient")
        _refuse_other_code(model, optimizer)
        parameters, depth = model.parameter_list if given is None else given, len(model.factors)
        clip = options.gradient_clip or 0.0
        rule = native_optimizer(optimizer, parameters[:depth], parameters[depth:], gradient_clip=clip)
        cls._check_rule(model, rule)
        return rule

    @property
    def step(self) -> int:
        """Number of updates made."""
        return self._updates - self._updates_before

    def model(self) -> DeepMatrixFactorization:
        """Return the model with the present parameters."""
        self._fill_model(self._parameters())
        return self._model

    def mean_squared_error(self, observations: Observations) -> float:
        """Return the weighted mean squared residual on other entries."""
        return mean_squared_error(self.model(), observations)

    def state(self) -> EngineState:
        """Return a copy of the state, as `DTensor`s if processes share the rows."""
        kept, optimizer = self._kept_parameters(), self._optimizer_state()
        moments = [self._placed(one) for one in optimizer.moments]
        return EngineState(
            self.step,
            self._named(self._placed(self._parameters())),
            None if kept is None else self._named(self._placed(kept)),
            vars(OptimizerState(optimizer.steps, moments, optimizer.scalars)),
        )

    def resume(self, state: EngineState) -> None:
        """Restore a state returned by `state`."""
        if state.kept is not None:
            self._set_parameters(_local(state.kept.values()))
            self.keep()
        self._set_parameters(_local(state.parameters.values()))
        optimizer = OptimizerState(**state.optimizer)
        self._updates_before = optimizer.steps - state.step
        moments = [_local(one) for one in optimizer.moments]
        self._set_optimizer_state(OptimizerState(optimizer.steps, moments, optimizer.scalars))

    def finish(self, *, best: bool) -> None:
        """Set the model to the kept or the present parameters, and the optimizer to its state."""
        if isinstance(self._optimizer, torch.optim.Optimizer) and self.step:
            write_state(self._optimizer, self._rule, self._given, self._turned_state(self._optimizer_state()))
        kept = self._kept_parameters() if best else None
        self._fill_model(self._parameters() if kept is None else kept)

    def _begin_with_optimizer(self) -> None:
        """Start from the state of a bound optimizer that has already made steps."""
        if isinstance(self._optimizer, torch.optim.Optimizer):
            state = read_state(self._optimizer, self._rule, self._given)
            if state is not None:
                self._updates_before = state.steps
                self._set_optimizer_state(self._turned_state(state))

    @torch.no_grad()
    def _fill_model(self, parameters: Sequence[Tensor]) -> None:
        for place, (own, present) in enumerate(zip(self._model.parameter_list, parameters, strict=True)):
            local_part(own).copy_(self._as_in_model(place, present))

    def _placed(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Return tensors like the parameters as `DTensor`s if these are `DTensor`s."""
        return [placed_as(one, own) for one, own in zip(parameters, self._model.parameter_list, strict=True)]

    def _named(self, parameters: Sequence[Tensor]) -> dict[str, Tensor]:
        names = [f"factors.{place}" for place in range(len(self._model.factors))]
        return dict(zip([*names, *_NAMES_OF_BIASES], parameters, strict=False))

    def _turned_state(self, state: OptimizerState) -> OptimizerState:
        moments = [[self._turned(place, one) for place, one in enumerate(each)] for each in state.moments]
        return OptimizerState(state.steps, moments, state.scalars)

    def _turned(self, place: int, matrix: Tensor) -> Tensor:
        """Convert a matrix between the orientations of the model and of the engine."""
        return matrix

    def _as_in_model(self, place: int, parameter: Tensor) -> Tensor:
        """Convert a parameter to the form of the model."""
        return parameter

    @classmethod
    @abstractmethod
    def _check_problem(cls, model: DeepMatrixFactorization, train: Observations, options: FitOptions) -> None:
        """Raise `NotNative` if this engine does not support the model, entries or options."""

    @classmethod
    @abstractmethod
    def _check_rule(cls, model: DeepMatrixFactorization, rule: NativeOptimizer) -> None:
        """Raise `NotNative` if this engine does not support the update rule for the model."""

    @abstractmethod
    def _set_up(self, train: Observations, options: FitOptions) -> None:
        """Copy parameters and entries into the form of the engine; may raise `NotNative`."""

    @abstractmethod
    def keep(self) -> None:
        """Keep a copy of the present parameters."""

    @property
    @abstractmethod
    def _updates(self) -> int:
        """Number of updates made, including those of the optimizer before the run."""

    @abstractmethod
    def _parameters(self) -> list[Tensor]:
        """Return copies of factors and biases in the form of the engine."""

    @abstractmethod
    def _kept_parameters(self) -> list[Tensor] | None:
        """Return copies of the kept parameters; None if there are none."""

    @abstractmethod
    def _set_parameters(self, parameters: Sequence[Tensor]) -> None:
        """Set the parameters, given in the form of the engine."""

    @abstractmethod
    def _optimizer_state(self) -> OptimizerState:
        """Return a copy of the state of the rule in the form of the engine."""

    @abstractmethod
    def _set_optimizer_state(self, state: OptimizerState) -> None:
        """Set the state of the rule."""


def _local(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [local_part(tensor) for tensor in tensors]


def _refuse_other_code(
    model: DeepMatrixFactorization, optimizer: torch.optim.Optimizer | OptimizerSpec
) -> None:
    """Raise `NotNative` if a step would run user code, which native code cannot call."""
    kind, base = type(model), DeepMatrixFactorization
    same_loss = kind.loss is base.loss and kind.forward is base.forward
    same_chain = kind.chain_and_biases is base.chain_and_biases
    if not same_loss or (not same_chain and kind.parameter_scales is base.parameter_scales):
        raise NotNative(f"{kind.__name__} computes its loss itself")
    if any(one._backward_hooks or one._post_accumulate_grad_hooks for one in model.parameters()):
        raise NotNative("a parameter has a hook")
    if {id(one) for one in model.parameters()} != {id(one) for one in model.parameter_list}:
        raise NotNative("the model has other parameters than factors and biases")
    if isinstance(optimizer, torch.optim.Optimizer) and (
        optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    ):
        raise NotNative("the optimizer has a hook")


class CudaEngine(RuleEngine):
    """A run on a GPU with factors alone and a common update rule."""

    _kept: list[Tensor] | None = None

    @classmethod
    def _check_problem(cls, model: DeepMatrixFactorization, train: Observations, options: FitOptions) -> None:
        cuda.check_usable(train.device)
        if train.parts[0] is not train:
            raise NotNative("row blocks have no native step on a GPU")
        if model.biases or model.mean.item() or model.parameter_scales() is not None:
            raise NotNative("biases, a mean and scaled coordinates have no native step on a GPU")
        if options.gradient_clip is not None:
            raise NotNative("clipped gradients have no native step on a GPU")

    @classmethod
    def _check_rule(cls, model: DeepMatrixFactorization, rule: NativeOptimizer) -> None:
        if rule.kind in _CPU_RULES:
            raise NotNative(f"{_CPU_RULES[rule.kind]} has no native step on a GPU")

    def keep(self) -> None:
        """Keep a copy of the present parameters."""
        self._kept = self._parameters()

    def _kept_parameters(self) -> list[Tensor] | None:
        return self._kept
