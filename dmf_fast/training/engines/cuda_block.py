"""Runs of gradient descent in single thread blocks of a GPU, thousands of steps per launch."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dmf_fast import _native
from dmf_fast._native import Outcome, Part
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.ops.planner import plan_descent
from dmf_fast.optim.native import NotNative, OptimizerState
from dmf_fast.training.engines.program import DescentProgram
from dmf_fast.training.engines.protocol import loss_scale, thresholds
from dmf_fast.training.engines.rule_engine import MOMENTS, CudaEngine
from dmf_fast.training.options import FitOptions

# Initial estimate, far below the rate of a GPU, so that the first launch is short.
_FIRST_CYCLES_A_SECOND = 1e8
# A launch takes at most about half of the available time.
_MOST_OF_SLICE = 0.5


class CudaBlockEngine(CudaEngine):
    """A run with matrices in the shared memory of a block as far as they fit, and otherwise in the L2 cache.

    ``csrc/kernels/cuda/descent.cuh`` makes the steps. The run is stored in one tensor on the GPU, except for
    its progress, which is copied with each launch.

    Attributes:
        memory: that tensor.
        run_state: the progress, a ``RunState``.
        shared_bytes: bytes of shared memory that the block needs.
        cycles: estimated clock cycles per step.

    """

    name = "cuda_block"

    def _set_up(self, train: Observations, options: FitOptions) -> None:
        """Copy the run to the device of ``train``; raises `NotNative` if it is too large for a block."""
        model = self._model
        self.program = DescentProgram(plan_descent(model.dims, train.nnz, "cuda"))
        run = self._planned(train, options)
        self._parts = (Part.parameter, *MOMENTS[: self._rule.rule.moments])
        factors = range(self.program.factors)
        self._places = {part: [run.place(part, factor) for factor in factors] for part in self._parts}
        self.shared_bytes, self.cycles, self.run_state = run.shared_bytes, run.cycles, run.state()
        self.memory = torch.from_numpy(run.memory()).to(train.device)
        self._write(Part.parameter, list(model.factors))
        self._launches = BlockLaunches()

    @classmethod
    def _check_problem(cls, model: DeepMatrixFactorization, train: Observations, options: FitOptions) -> None:
        if train.device.type != "cuda":
            raise NotNative(f"the observations are on {train.device}")
        super()._check_problem(model, train, options)

    def _planned(self, train: Observations, options: FitOptions) -> _native.BlockRun32 | _native.BlockRun64:
        rows, columns = train.coordinates()
        try:
            return (_native.BlockRun64 if train.dtype == torch.float64 else _native.BlockRun32)(
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
                shared_limit=torch.ops.dmf_fast.block_shared_memory(train.values),
            )
        except _native.TooLargeForBlock as error:
            raise NotNative(str(error)) from None

    def run(self, until: int, *, most_seconds: float) -> Outcome:
        """Launch once, for the updates until ``until`` or those that take about half of the time."""
        (outcome,) = self._launches.launch([(self, until)], most_seconds=most_seconds)
        return outcome

    def go_to(self, until: int) -> None:
        """Make the next launch end at update ``until``."""
        self.run_state["until"] = until + self._updates_before

    @property
    def _updates(self) -> int:
        return int(self.run_state["step"][0])

    @property
    def loss(self) -> float:
        """Weighted mean squared residual of the present factors; invalid while the run is paused."""
        return float(self.run_state["loss"][0])

    @property
    def gradient_norm(self) -> float:
        """Norm of all gradients together; invalid while the run is paused."""
        return float(self.run_state["gradient_norm"][0])

    def _parameters(self) -> list[Tensor]:
        return self._read(Part.parameter)

    def _set_parameters(self, parameters: Sequence[Tensor]) -> None:
        self._write(Part.parameter, parameters)

    def _optimizer_state(self) -> OptimizerState:
        moments = [self._read(part) for part in self._parts[1:]]
        return OptimizerState(self._updates, moments, [float(self.run_state["square_average"][0])])

    def _set_optimizer_state(self, state: OptimizerState) -> None:
        for part, moments in zip(self._parts[1:], state.moments, strict=True):
            self._write(part, moments)
        self.run_state["step"], self.run_state["square_average"] = state.steps, (state.scalars or [0.0])[0]
        self.run_state["outcome"] = int(Outcome.paused)

    def _view(self, part: Part, factor: int) -> Tensor:
        """Return a view of a factor, or of its moment, in the memory of the run, in the shape of ``W_j``."""
        offset, rows, columns, stride = self._places[part][factor]
        kept = self.memory.as_strided((rows, columns), (stride, 1), offset)
        return kept.T if self.program.keeps_transposed(factor) else kept

    def _read(self, part: Part) -> list[Tensor]:
        return [
            self._view(part, factor).clone(memory_format=torch.contiguous_format)
            for factor in range(self.program.factors)
        ]

    def _write(self, part: Part, matrices: Sequence[Tensor]) -> None:
        for factor, matrix in enumerate(matrices):
            self._view(part, factor).copy_(matrix.detach())


class BlockLaunches:
    """Launches runs of one dtype together, one per block, and measures the speed of the GPU.

    The results of a run depend neither on the others in a launch nor on how its steps are divided into
    launches.
    """

    def __init__(self) -> None:
        self._cycles_a_second = _FIRST_CYCLES_A_SECOND
        self._ended = time.perf_counter()

    def launch(self, asked: Sequence[tuple[CudaBlockEngine, int]], *, most_seconds: float) -> list[Outcome]:
        """Make steps with each engine: to its ``until``, to an earlier end, or as many as there is time for.

        All get about the same number of cycles, since they run concurrently: until the first one reaches its
        ``until``, but for at least the time that has passed since the last launch, to amortize launches.
        """
        began = time.perf_counter()
        before = {engine: engine.step for engine, _ in asked}
        first = min(engine.cycles * (until - before[engine]) for engine, until in asked)
        seconds = max(first / self._cycles_a_second, began - self._ended)
        cycles = min(seconds, _MOST_OF_SLICE * most_seconds) * self._cycles_a_second
        ends = [
            (engine, min(until, before[engine] + max(1, math.ceil(cycles / engine.cycles))))
            for engine, until in asked
        ]
        self._launch(sorted(ends, key=lambda one: one[0].cycles * (one[1] - before[one[0]]), reverse=True))
        self._ended = time.perf_counter()
        # A launch also evaluates the state in which it ends.
        made = max(engine.cycles * (engine.step - step + 1) for engine, step in before.items())
        self._cycles_a_second = made / max(self._ended - began, 1e-9)
        return [_outcome(engine, until) for engine, until in asked]

    @staticmethod
    def _launch(ends: Sequence[tuple[CudaBlockEngine, int]]) -> None:
        """Launch the steps of each engine to its end; the longest runs come first."""
        for engine, end in ends:
            engine.go_to(end)
        engines = [engine for engine, _ in ends]
        states = np.concatenate([engine.run_state.view(np.uint8) for engine in engines])
        torch.ops.dmf_fast.descend_blocks(
            [engine.memory for engine in engines],
            torch.from_numpy(states),
            max(engine.shared_bytes for engine in engines),
        )
        for engine, state in zip(engines, states.reshape(len(engines), -1), strict=True):
            engine.run_state.view(np.uint8)[:] = state


def _outcome(engine: CudaBlockEngine, until: int) -> Outcome:
    """Return the outcome of a launch for a run with the target ``until``."""
    ended = Outcome(int(engine.run_state["outcome"][0]))
    return Outcome.paused if ended == Outcome.reached and engine.step < until else ended
