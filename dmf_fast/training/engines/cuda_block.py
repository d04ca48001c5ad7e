"""Runs of gradient descent in one block of a GPU's threads, thousands of steps a launch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from dmf_fast import _native
from dmf_fast._native import Outcome, Part
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.ops.planner import plan_descent
from dmf_fast.optim.native import NativeOptimizer, NotNative, OptimizerState
from dmf_fast.optim.spec import OptimizerSpec
from dmf_fast.training.engines.program import DescentProgram
from dmf_fast.training.engines.protocol import loss_scale, thresholds
from dmf_fast.training.engines.rule_engine import MOMENTS, CudaEngine
from dmf_fast.training.options import FitOptions

_FIRST_UPDATES = 256


class CudaBlockEngine(CudaEngine):
    """A run whose matrices stay in a block's shared memory, as far as they fit, and else in the L2 cache.

    ``csrc/kernels/cuda/descent.cuh`` makes the steps. All of the run lies in three tensors on the GPU; every
    engine has a stream of its own, so that engines in several threads run side by side.
    """

    name = "cuda_block"

    def __init__(
        self,
        model: DeepMatrixFactorization,
        train: Observations,
        optimizer: torch.optim.Optimizer | OptimizerSpec,
        options: FitOptions,
        given: Sequence[Tensor] | None = None,
    ) -> None:
        """Take the run to the device of ``train``.

        Raises:
            NotNative: the problem is too large for a block, or another engine must make these steps.

        """
        super().__init__(model, train, optimizer, options, given)
        self.program = DescentProgram(plan_descent(model.dims, train.nnz, "cuda"))
        runs = self._planned(train, options)
        self._places, self._shared_bytes = runs.place, runs.shared_bytes
        self._parts = (Part.parameter, *MOMENTS[: self._rule.rule.moments])
        self._state_dtype = runs.states().dtype
        device = train.device
        self._stream = torch.cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))
        self._updates_a_launch = _FIRST_UPDATES
        with torch.cuda.stream(self._stream):
            self._runs = torch.from_numpy(runs.runs()).to(device)
            self._states = torch.from_numpy(runs.states().view(np.uint8)).to(device)
            self._memory = torch.from_numpy(runs.memory()).to(device)
            self._write(Part.parameter, [factor.detach() for factor in model.factors])
        self._known = runs.states()[0]
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
        """Return the update rule; see `RuleEngine.rule_of`."""
        if train.device.type != "cuda":
            raise NotNative(f"the observations are on {train.device}")
        return super().rule_of(model, train, optimizer, options, given)

    def _planned(self, train: Observations, options: FitOptions) -> _native.BlockRuns32 | _native.BlockRuns64:
        limit = torch.ops.dmf_fast.block_shared_memory(train.layout().values)
        runs = (_native.BlockRuns64 if train.dtype == torch.float64 else _native.BlockRuns32)(limit)
        rows, columns = train.coordinates()
        try:
            runs.add(
                self.program.native(),
                train.shape,
                rows.cpu().numpy(),
                columns.cpu().numpy(),
                train.values.cpu().numpy(),
                None if train.weights is None else train.weights.cpu().numpy(),
                loss_scale(train, options),
                train.total_weight,
                self._rule.rule,
                *thresholds(options),
            )
        except ValueError as error:
            raise NotNative(str(error)) from None
        return runs

    def run(self, until: int, *, most_seconds: float) -> Outcome:
        """Launch until ``until`` updates are made in all, a stop rule holds or about so much time is over."""
        started = time.perf_counter()
        until += self._updates_before
        while True:
            before, began = self._updates, time.perf_counter()
            self._launch(until, self._updates_a_launch)
            outcome, now = Outcome(int(self._known["outcome"])), time.perf_counter()
            if outcome != Outcome.paused or now - started >= most_seconds:
                return outcome
            # So many that a launch takes about half of the time.
            seconds_an_update = (now - began) / max(1, self._updates - before)
            self._updates_a_launch = max(1, int(0.5 * most_seconds / seconds_an_update))

    @property
    def _updates(self) -> int:
        return int(self._known["step"])

    @property
    def loss(self) -> float:
        """Weighted mean of the squared residuals of the present factors, where the run has not paused."""
        return float(self._known["loss"])

    @property
    def gradient_norm(self) -> float:
        """Norm of all gradients together, where the run has not paused."""
        return float(self._known["gradient_norm"])

    def _parameters(self) -> list[Tensor]:
        return self._read(Part.parameter)

    def _set_parameters(self, parameters: Sequence[Tensor]) -> None:
        with self._on_stream():
            self._write(Part.parameter, parameters)

    def _optimizer_state(self) -> OptimizerState:
        moments = [self._read(part) for part in self._parts[1:]]
        return OptimizerState(self._updates, moments, [float(self._known["square_average"])])

    def _set_optimizer_state(self, state: OptimizerState) -> None:
        known = np.zeros(1, self._state_dtype)
        known["step"], known["square_average"] = state.steps, (state.scalars or [0.0])[0]
        known["outcome"] = int(Outcome.paused)
        with self._on_stream():
            for part, moments in zip(self._parts[1:], state.moments, strict=True):
                self._write(part, moments)
            self._states.copy_(torch.from_numpy(known.view(np.uint8)))
        self._known = known[0]

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        """Work on the engine's stream, after what the caller's has begun."""
        self._stream.wait_stream(torch.cuda.current_stream(self._memory.device))
        with torch.cuda.stream(self._stream):
            yield

    def _launch(self, until: int, updates: int) -> None:
        with self._on_stream():
            torch.ops.dmf_fast.descend_blocks(
                self._runs, self._states, self._memory, until, updates, self._shared_bytes
            )
            self._known = self._states.cpu().numpy().view(self._state_dtype)[0]

    def _view(self, part: Part, factor: int) -> Tensor:
        """Return a factor or a moment of it where the run keeps it, as ``W_j``."""
        offset, rows, columns, stride = self._places(0, part, factor)
        kept = self._memory.as_strided((rows, columns), (stride, 1), offset)
        return kept.T if self.program.keeps_transposed(factor) else kept

    def _read(self, part: Part) -> list[Tensor]:
        # On the caller's stream, whose memory the copies then are; a launch waits for it.
        self._stream.synchronize()
        return [
            self._view(part, factor).clone(memory_format=torch.contiguous_format)
            for factor in range(self.program.factors)
        ]

    def _write(self, part: Part, matrices: Sequence[Tensor]) -> None:
        for factor, matrix in enumerate(matrices):
            self._view(part, factor).copy_(matrix.detach())
