"""Runs in native code on the CPU: on one core, or on several if a step is large."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmf_fast import _native
from dmf_fast._native import Outcome, Part, RuleKind
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.ops.planner import plan_descent
from dmf_fast.optim.native import NativeOptimizer, NotNative, OptimizerState
from dmf_fast.sharding import is_sharded, local_part
from dmf_fast.training.engines.program import DescentProgram
from dmf_fast.training.engines.protocol import loss_scale, thresholds
from dmf_fast.training.engines.rule_engine import MOMENTS, RuleEngine
from dmf_fast.training.options import FitOptions


class NativeEngine(RuleEngine):
    """A run in ``csrc/kernels/cpu/descent.h``.

    It works on the factors of the matrix itself. A model in other coordinates, such as
    `dmf_fast.completion.ScaledFactorization`, has a scale for each row of a parameter: the update rule
    divides the parameter by it and multiplies the gradient, so that no scaled copies are needed.
    """

    name = "native"

    def _set_up(self, train: Observations, options: FitOptions) -> None:
        model = self._model
        scaled = model.parameter_scales() is not None
        forms_product = not scaled and self._rule.kind != RuleKind.preconditioned_lbfgs
        # The plan is that of the whole matrix, for any number of processes.
        plan = plan_descent(model.dims, train.nnz, "cpu", forms_product=forms_product)
        rows = sum(part.shape[0] for part in train.parts)
        self.program = DescentProgram(replace(plan, dims=(*plan.dims[:-1], rows)))
        self._sharding = train.sharding
        self._scales = self._kept_scales()
        self._thresholds = thresholds(options)
        self._entries: dict[int, tuple[Observations, Any]] = {}
        self._has_kept = False
        native = _native.Descent64 if train.dtype == torch.float64 else _native.Descent32
        self._native = native(
            self.program.native(),
            self._entries_of_parts(train),
            loss_scale=loss_scale(train, options),
            rule=self._rule.rule,
            mean=model.mean.item(),
            biases=bool(model.biases),
            scales=[None if scale is None else scale.numpy() for scale in self._scales],
            curvatures=[
                None if one is None else one.detach().to(train.dtype).contiguous().numpy()
                for one in self._rule.curvatures
            ],
            threads=torch.get_num_threads(),
            ranks=None if self._sharding.mesh is None else self._sharding.add_up_arrays,
        )
        own = [local_part(parameter.detach()) for parameter in model.parameter_list]
        self._set_parameters([self._scaled(place, one) for place, one in enumerate(own)])

    @classmethod
    def _check_problem(cls, model: DeepMatrixFactorization, train: Observations, options: FitOptions) -> None:
        if train.device.type != "cpu":
            raise NotNative(f"the observations are on {train.device}")
        if len(model.factors) > 1 and is_sharded(model.factors[0]):
            raise NotNative("processes share the columns of the first factor")

    @classmethod
    def _check_rule(cls, model: DeepMatrixFactorization, rule: NativeOptimizer) -> None:
        if model.parameter_scales() is not None:
            if len(model.factors) == 1:
                raise NotNative("scaled coordinates of a single factor have no native step")
            if rule.kind == RuleKind.adam:
                raise NotNative("Adam in scaled coordinates has no native step")

    def run(self, until: int, *, most_seconds: float) -> Outcome:
        """Make updates until step ``until`` or less; see `Engine.run` and ``csrc/kernels/cpu/descent.h``."""
        with _one_thread_of_torch(self.program):
            return self._native.run(until + self._updates_before, *self._thresholds, most_seconds)

    @property
    def loss(self) -> float:
        """Weighted mean squared residual of the present parameters; invalid while the run is paused."""
        return self._native.loss

    @property
    def gradient_norm(self) -> float:
        """Norm of all gradients together; invalid while the run is paused."""
        return self._native.gradient_norm

    def mean_squared_error(self, observations: Observations) -> float:
        """Return the weighted mean squared residual on other entries."""
        if observations.dtype != self._model.mean.dtype:
            return super().mean_squared_error(observations)
        with _one_thread_of_torch(self.program):
            return self._native.mean_squared_error(self._entries_of_parts(observations))

    def keep(self) -> None:
        """Keep a copy of the present parameters."""
        self._native.keep()
        self._has_kept = True

    @property
    def _updates(self) -> int:
        return self._native.step

    def _parameters(self) -> list[Tensor]:
        return self._read(Part.parameter)

    def _kept_parameters(self) -> list[Tensor] | None:
        return self._read(Part.kept) if self._has_kept else None

    def _set_parameters(self, parameters: Sequence[Tensor]) -> None:
        self._write(Part.parameter, parameters)

    def _optimizer_state(self) -> OptimizerState:
        moments = [self._read(part) for part in MOMENTS[: self._rule.rule.moments]]
        return OptimizerState(self._native.step, moments, self._native.scalars())

    def _set_optimizer_state(self, state: OptimizerState) -> None:
        for part, moments in zip(MOMENTS, state.moments, strict=False):
            self._write(part, moments)
        self._native.resume_from(state.steps, state.scalars)

    def _turned(self, place: int, matrix: Tensor) -> Tensor:
        turned = place < self.program.factors and self.program.keeps_transposed(place)
        return matrix.T.contiguous() if turned else matrix

    def _scaled(self, place: int, parameter: Tensor) -> Tensor:
        """Return a parameter of the model in the form of the kernels."""
        turned, scale = self._turned(place, parameter), self._scales[place]
        if scale is None:
            return turned
        return turned * (scale.unsqueeze(1) if turned.dim() == 2 else scale)

    def _as_in_model(self, place: int, parameter: Tensor) -> Tensor:
        scale = self._scales[place]
        if scale is not None:
            parameter = parameter / (scale.unsqueeze(1) if parameter.dim() == 2 else scale)
        return self._turned(place, parameter)

    def _kept_scales(self) -> list[Tensor | None]:
        """Return the scales of the rows of each parameter as the kernels store it, or None."""
        scales: list[Tensor | None] = [None] * len(self._model.parameter_list)
        given = self._model.parameter_scales()
        if given is not None:
            depth = len(self._model.factors)
            scales[depth - 1], scales[0] = given.rows, given.columns
            scales[depth:] = [given.row_bias, given.column_bias][: len(scales) - depth]
        return scales

    def _entries_of_parts(
        self, observations: Observations
    ) -> list[_native.ObservedEntries32 | _native.ObservedEntries64]:
        """Return the parts of observations in the form of the kernels."""
        return [self._entries_of(part) for part in observations.parts]

    def _entries_of(
        self, observations: Observations
    ) -> _native.ObservedEntries32 | _native.ObservedEntries64:
        """Return observations in the form of the kernels, cached for the lifetime of the engine."""
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

    def _read(self, part: Part) -> list[Tensor]:
        return [torch.from_numpy(self._native.read(part, j)) for j in range(self._native.parameters)]

    def _write(self, part: Part, matrices: Sequence[Tensor]) -> None:
        for j, matrix in enumerate(matrices):
            self._native.write(part, j, np.ascontiguousarray(matrix.numpy()))


@contextmanager
def _one_thread_of_torch(program: DescentProgram) -> Iterator[None]:
    """Make torch's products single-threaded, since the engine divides them among its own threads."""
    threads = torch.get_num_threads()
    if not program.products or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
