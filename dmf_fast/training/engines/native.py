"""Runs in native code on the CPU: on one core, or on several where a step is large."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmf_fast import _native
from dmf_fast._native import Outcome, Part
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.ops.planner import plan_descent
from dmf_fast.optim.native import (
    NativeOptimizer,
    NotNative,
    OptimizerState,
    native_optimizer,
    read_state,
    write_state,
)
from dmf_fast.optim.spec import OptimizerSpec
from dmf_fast.training.engines.program import DescentProgram
from dmf_fast.training.engines.protocol import EngineState, loss_scale, thresholds
from dmf_fast.training.errors import mean_squared_error
from dmf_fast.training.options import FitOptions

_MOMENTS = (Part.first_moment, Part.second_moment)


class NativeEngine:
    """A run of ``csrc/kernels/cpu/descent.h``, which holds the parameters until `model` asks for them.

    It works on the factors of the matrix itself. A model in other coordinates, such as
    `dmf_fast.completion.ScaledFactorization`, gives a scale for every row of a parameter: the update rule
    sees the parameter divided by it, and the gradient multiplied, so that no scaled copies are made.

    >>> from dmf_fast.training.options import FitOptions
    >>> train = Observations([0, 1, 1], [0, 0, 1], [1.0, 2.0, 2.0])
    >>> model = DeepMatrixFactorization.of_factors([torch.eye(2), torch.eye(2)])
    >>> spec = OptimizerSpec(torch.optim.SGD, {"lr": 0.1})
    >>> engine = NativeEngine(model, train, spec, FitOptions())
    >>> engine.run(10, most_seconds=60.0).name, engine.step
    ('reached', 10)
    """

    name = "native"

    def __init__(
        self,
        model: DeepMatrixFactorization,
        train: Observations,
        optimizer: torch.optim.Optimizer | OptimizerSpec,
        options: FitOptions,
        given: Sequence[Tensor] | None = None,
    ) -> None:
        """Take over the parameters; ``given`` are the tensors that a bound ``optimizer`` knows them by.

        Raises:
            NotNative: another engine must make these steps.

        """
        self._check(model, train)
        self._model, self._optimizer = model, optimizer
        self._given = model.parameter_list if given is None else list(given)
        depth = len(model.factors)
        self._native_optimizer: NativeOptimizer = native_optimizer(
            optimizer,
            self._given[:depth],
            self._given[depth:],
            gradient_clip=options.gradient_clip or 0.0,
        )
        scaled = model.parameter_scales() is not None
        self.program = DescentProgram(plan_descent(model.dims, train.nnz, "cpu", forms_product=not scaled))
        self._scales = self._kept_scales()
        self._thresholds = thresholds(options)
        self._entries: dict[int, tuple[Observations, Any]] = {}
        kind = _native.Descent64 if train.dtype == torch.float64 else _native.Descent32
        self._native = kind(
            self.program.native(),
            self._entries_of(train),
            loss_scale=loss_scale(train, options),
            rule=self._native_optimizer.rule,
            mean=model.mean.item(),
            biases=bool(model.biases),
            scales=[None if scale is None else scale.numpy() for scale in self._scales],
            threads=torch.get_num_threads(),
        )
        self._has_kept, self._steps_before = False, 0
        self._write(Part.parameter, [self._kept_form(w, j) for j, w in enumerate(model.parameter_list)])
        self._take_up_optimizer()

    @staticmethod
    def _check(model: DeepMatrixFactorization, train: Observations) -> None:
        if train.device.type != "cpu":
            raise NotNative(f"the observations are on {train.device}")
        if train.dtype not in (torch.float32, torch.float64):
            raise NotNative(f"{train.dtype} has no native step")
        if not all(parameter.requires_grad for parameter in model.parameters()):
            raise NotNative("a parameter does not require a gradient")
        if model.parameter_scales() is not None and len(model.factors) == 1:
            raise NotNative("scaled coordinates of a single factor have no native step")

    def run(self, until: int, *, most_seconds: float) -> Outcome:
        """Make updates until ``until`` are made in all, or less: see ``csrc/kernels/cpu/descent.h``."""
        with _one_thread_of_torch(self.program):
            return self._native.run(until + self._steps_before, *self._thresholds, most_seconds)

    @property
    def step(self) -> int:
        """Updates made so far."""
        return self._native.step - self._steps_before

    @property
    def loss(self) -> float:
        """Weighted mean of the squared residuals of the present parameters, where the run has not paused."""
        return self._native.loss

    @property
    def gradient_norm(self) -> float:
        """Norm of all gradients together, where the run has not paused."""
        return self._native.gradient_norm

    def mean_squared_error(self, observations: Observations) -> float:
        """Return the weighted mean of the squared residuals on other entries."""
        if observations.dtype != self._model.mean.dtype:
            return mean_squared_error(self.model(), observations)
        with _one_thread_of_torch(self.program):
            return self._native.mean_squared_error(self._entries_of(observations))

    def model(self) -> DeepMatrixFactorization:
        """Return the model with the present parameters."""
        self._write_model(Part.parameter)
        return self._model

    def keep(self) -> None:
        """Keep the present parameters."""
        self._native.keep()
        self._has_kept = True

    def state(self) -> EngineState:
        """Return copies of all that changes from step to step, as the kernels keep it."""
        state = self._optimizer_state()
        optimizer = {"steps": state.steps, "moments": state.moments, "scalars": state.scalars}
        kept = self._named(Part.kept) if self._has_kept else None
        return EngineState(self.step, self._named(Part.parameter), kept, optimizer)

    def resume(self, state: EngineState) -> None:
        """Take up a state that `state` has returned."""
        if state.kept is not None:
            self._write(Part.parameter, list(state.kept.values()))
            self.keep()
        self._write(Part.parameter, list(state.parameters.values()))
        self._set_optimizer(OptimizerState(**state.optimizer), state.step)

    def finish(self, *, best: bool) -> None:
        """Leave the model with the kept or the present parameters, the optimizer with its state."""
        if isinstance(self._optimizer, torch.optim.Optimizer):
            state = self._optimizer_state()
            state.moments = [[self._turned(j, m) for j, m in enumerate(moment)] for moment in state.moments]
            write_state(self._optimizer, self._native_optimizer, self._given, state)
        self._write_model(Part.kept if best else Part.parameter)

    def _take_up_optimizer(self) -> None:
        """Begin where a bound optimizer is that has made steps already."""
        if not isinstance(self._optimizer, torch.optim.Optimizer):
            return
        state = read_state(self._optimizer, self._native_optimizer, self._given)
        if state is not None:
            state.moments = [[self._turned(j, m) for j, m in enumerate(moment)] for moment in state.moments]
            self._set_optimizer(state, 0)

    def _optimizer_state(self) -> OptimizerState:
        parts = _MOMENTS[: self._native_optimizer.rule.moments]
        return OptimizerState(
            self._native.step, [self._read(part) for part in parts], self._native.scalars()
        )

    def _set_optimizer(self, state: OptimizerState, step: int) -> None:
        for part, moments in zip(_MOMENTS, state.moments, strict=False):
            self._write(part, moments)
        self._steps_before = state.steps - step
        self._native.go_on_from(state.steps, state.scalars)

    @torch.no_grad()
    def _write_model(self, part: Part) -> None:
        for j, (parameter, kept) in enumerate(zip(self._model.parameter_list, self._read(part), strict=True)):
            scale = self._scales[j]
            if scale is not None:
                kept /= scale.unsqueeze(1) if kept.dim() == 2 else scale
            parameter.copy_(self._turned(j, kept))

    def _kept_form(self, parameter: Tensor, j: int) -> Tensor:
        """Return a parameter of the model as the kernels keep it."""
        kept, scale = self._turned(j, parameter.detach()), self._scales[j]
        if scale is None:
            return kept
        return kept * (scale.unsqueeze(1) if kept.dim() == 2 else scale)

    def _turned(self, j: int, matrix: Tensor) -> Tensor:
        """Return a factor right of the split transposed, everything else as it is; its own inverse."""
        turned = j < self.program.factors and self.program.keeps_transposed(j)
        return matrix.T.contiguous() if turned else matrix

    def _kept_scales(self) -> list[Tensor | None]:
        """Return the scale of every row of every parameter as it is kept, None where there are none."""
        scales: list[Tensor | None] = [None] * len(self._model.parameter_list)
        given = self._model.parameter_scales()
        if given is not None:
            depth = len(self._model.factors)
            scales[depth - 1], scales[0] = given.rows, given.columns
            scales[depth:] = [given.row_bias, given.column_bias][: len(scales) - depth]
        return scales

    def _entries_of(self, observations: Observations) -> _native.ObservedEntries32 | _native.ObservedEntries64:
        """Return what the kernels read of observations, which are kept as long as this engine."""
        known = self._entries.get(id(observations))
        if known is None:
            layout = observations.layout()
            wide = observations.dtype == torch.float64
            entries = (_native.ObservedEntries64 if wide else _native.ObservedEntries32)(
                layout.buffer.numpy(),
                layout.values.numpy(),
                None if layout.weights is None else layout.weights.numpy(),
            )
            known = self._entries[id(observations)] = (observations, entries)
        return known[1]

    def _named(self, part: Part) -> dict[str, Tensor]:
        names = [f"factors.{j}" for j in range(self.program.factors)] + ["row_bias", "column_bias"]
        return dict(zip(names, self._read(part), strict=False))

    def _read(self, part: Part) -> list[Tensor]:
        return [torch.from_numpy(self._native.read(part, j)) for j in range(self._native.parameters)]

    def _write(self, part: Part, matrices: Sequence[Tensor]) -> None:
        for j, matrix in enumerate(matrices):
            self._native.write(part, j, np.ascontiguousarray(matrix.numpy()))


@contextmanager
def _one_thread_of_torch(program: DescentProgram) -> Iterator[None]:
    """Have torch's products use one thread each, where the engine gives parts of them to its own threads."""
    threads = torch.get_num_threads()
    if not program.products or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
