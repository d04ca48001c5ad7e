"""Runs of gradient descent in native code on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dmf_fast import _native
from dmf_fast._native import Outcome, Part
from dmf_fast.observations import Observations
from dmf_fast.ops.planner import plan_descent
from dmf_fast.training.descent_options import DescentOptions
from dmf_fast.training.engine import MOMENTS, EngineState, loss_scale, thresholds
from dmf_fast.training.program import DescentProgram
from dmf_fast.training.rules import Rule


class CpuEngine:
    """A run of gradient descent in native code: on one core, or on torch's threads where it is large.

    >>> observations = Observations([0, 1, 1], [0, 0, 1], [1.0, 2.0, 2.0])
    >>> from dmf_fast.training.rules import GradientDescent
    >>> engine = CpuEngine([torch.eye(2), torch.eye(2)], observations, GradientDescent(lr=0.1))
    >>> engine.run(10, most_seconds=60.0).name, engine.step
    ('reached', 10)
    """

    def __init__(
        self,
        factors: Sequence[Tensor],
        train: Observations,
        rule: Rule,
        options: DescentOptions = DescentOptions(),  # noqa: B008 (frozen)
    ) -> None:
        dims = (factors[0].shape[1], *(factor.shape[0] for factor in factors))
        self.program = DescentProgram(plan_descent(dims, train.nnz, "cpu"))
        self._moments = MOMENTS[: rule.native().moments]
        self._thresholds = thresholds(options)
        layout = train.layout()
        rows, columns = train.coordinates()
        native = _native.Descent64 if train.dtype == torch.float64 else _native.Descent32
        self._native = native(
            self.program.native(),
            train.shape,
            rows.numpy(),
            columns.numpy(),
            train.values.numpy(),
            None if train.weights is None else train.weights.numpy(),
            layout.buffer.numpy(),
            layout.values.numpy(),
            None if layout.weights is None else layout.weights.numpy(),
            loss_scale(train, options),
            train.total_weight,
            rule.native(),
        )
        self._write(Part.factor, factors)

    def run(self, until: int, *, most_seconds: float) -> Outcome:
        """Make updates until ``until`` are made in all, or less: see ``csrc/kernels/cpu/descent.h``."""
        return self._native.run(until, *self._thresholds, most_seconds)

    @property
    def step(self) -> int:
        """Updates made so far."""
        return self._native.step

    @property
    def loss(self) -> float:
        """Weighted mean of the squared residuals of the present factors, where the run has not paused."""
        return self._native.loss

    @property
    def gradient_norm(self) -> float:
        """Norm of all gradients together, where the run has not paused."""
        return self._native.gradient_norm

    def factors(self) -> list[Tensor]:
        """Return copies of ``[W_1, …, W_N]``."""
        return self._read(Part.factor)

    def state(self) -> EngineState:
        """Return copies of all that changes from step to step."""
        moments = [self._read(part) for part in self._moments]
        return EngineState(self.step, self._native.square_average, self.factors(), moments)

    def go_on_from(self, state: EngineState) -> None:
        """Take up a state that `state` has returned."""
        self._write(Part.factor, state.factors)
        for part, moments in zip(self._moments, state.moments, strict=True):
            self._write(part, moments)
        self._native.go_on_from(state.step, state.square_average)

    def _read(self, part: Part) -> list[Tensor]:
        kept = [torch.from_numpy(self._native.read(part, factor)) for factor in range(self.program.factors)]
        return [
            matrix.T.contiguous() if self.program.keeps_transposed(factor) else matrix
            for factor, matrix in enumerate(kept)
        ]

    def _write(self, part: Part, matrices: Sequence[Tensor]) -> None:
        for factor, matrix in enumerate(matrices):
            kept = matrix.detach().T if self.program.keeps_transposed(factor) else matrix.detach()
            self._native.write(part, factor, np.ascontiguousarray(kept.numpy()))
