"""Runs of gradient descent in one block of a GPU's threads, thousands of steps a launch."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dmf_fast import _native, cuda
from dmf_fast._native import Outcome, Part
from dmf_fast.observations import Observations
from dmf_fast.ops.planner import plan_descent
from dmf_fast.training.descent_options import DescentOptions
from dmf_fast.training.engine import MOMENTS, EngineState, loss_scale, thresholds
from dmf_fast.training.program import DescentProgram
from dmf_fast.training.rules import Rule

_FIRST_UPDATES = 256


class BlockEngine:
    """A run whose matrices stay in a block's shared memory, as far as they fit, and else in the L2 cache.

    ``csrc/kernels/cuda/descent.cuh`` makes the steps. All of the run lies in three tensors on the GPU; every
    engine has a stream of its own, so that engines in several threads run side by side.
    """

    def __init__(
        self,
        runs: _native.BlockRuns32 | _native.BlockRuns64,
        program: DescentProgram,
        factors: Sequence[Tensor],
        rule: Rule,
    ) -> None:
        """Take the one run in ``runs`` to the device of ``factors``."""
        device = factors[0].device
        self.program, self._places, self._shared_bytes = program, runs.place, runs.shared_bytes
        self._parts = (Part.factor, *MOMENTS[: rule.native().moments])
        self._state_dtype = runs.states().dtype
        self._stream = torch.cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))
        self._updates = _FIRST_UPDATES
        with torch.cuda.stream(self._stream):
            self._runs = torch.from_numpy(runs.runs()).to(device)
            self._states = torch.from_numpy(runs.states().view(np.uint8)).to(device)
            self._memory = torch.from_numpy(runs.memory()).to(device)
            self._write(Part.factor, factors)
        self._known = runs.states()[0]

    @classmethod
    def where_it_fits(
        cls, factors: Sequence[Tensor], train: Observations, rule: Rule, options: DescentOptions
    ) -> BlockEngine | None:
        """Return an engine, or None where the problem is too large for a block."""
        cuda.check_usable(train.device)
        dims = (factors[0].shape[1], *(factor.shape[0] for factor in factors))
        program = DescentProgram(plan_descent(dims, train.nnz, "cuda"))
        limit = torch.ops.dmf_fast.block_shared_memory(factors[0])
        runs = (_native.BlockRuns64 if train.dtype == torch.float64 else _native.BlockRuns32)(limit)
        rows, columns = train.coordinates()
        try:
            runs.add(
                program.native(),
                train.shape,
                rows.cpu().numpy(),
                columns.cpu().numpy(),
                train.values.cpu().numpy(),
                None if train.weights is None else train.weights.cpu().numpy(),
                loss_scale(train, options),
                train.total_weight,
                rule.native(),
                *thresholds(options),
            )
        except ValueError:
            return None
        return cls(runs, program, factors, rule)

    def run(self, until: int, *, most_seconds: float) -> Outcome:
        """Launch until ``until`` updates are made in all, a stop rule holds or about so much time is over."""
        started = time.perf_counter()
        while True:
            before, began = self.step, time.perf_counter()
            self._launch(until, self._updates)
            outcome, now = Outcome(int(self._known["outcome"])), time.perf_counter()
            if outcome != Outcome.paused or now - started >= most_seconds:
                return outcome
            # So many that a launch takes about half of the time.
            seconds_an_update = (now - began) / max(1, self.step - before)
            self._updates = max(1, int(0.5 * most_seconds / seconds_an_update))

    @property
    def step(self) -> int:
        """Updates made so far."""
        return int(self._known["step"])

    @property
    def loss(self) -> float:
        """Weighted mean of the squared residuals of the present factors, where the run has not paused."""
        return float(self._known["loss"])

    @property
    def gradient_norm(self) -> float:
        """Norm of all gradients together, where the run has not paused."""
        return float(self._known["gradient_norm"])

    def factors(self) -> list[Tensor]:
        """Return copies of ``[W_1, …, W_N]``."""
        return self._read(Part.factor)

    def state(self) -> EngineState:
        """Return copies of all that changes from step to step."""
        average = float(self._known["square_average"])
        return EngineState(self.step, average, self.factors(), [self._read(part) for part in self._parts[1:]])

    def go_on_from(self, state: EngineState) -> None:
        """Take up a state that `state` has returned."""
        known = np.zeros(1, self._state_dtype)
        known["step"], known["square_average"] = state.step, state.square_average
        known["outcome"] = int(Outcome.paused)
        self._stream.wait_stream(torch.cuda.current_stream(self._memory.device))
        with torch.cuda.stream(self._stream):
            for part, matrices in zip(self._parts, (state.factors, *state.moments), strict=True):
                self._write(part, matrices)
            self._states.copy_(torch.from_numpy(known.view(np.uint8)))
        self._known = known[0]

    def _launch(self, until: int, updates: int) -> None:
        self._stream.wait_stream(torch.cuda.current_stream(self._memory.device))
        with torch.cuda.stream(self._stream):
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
