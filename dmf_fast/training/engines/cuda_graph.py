"""Runs of gradient descent with the operators; on a GPU a step is captured in a CUDA graph."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dmf_fast._native import Outcome, RuleKind
from dmf_fast.observations import Observations
from dmf_fast.ops.functional import completion_loss
from dmf_fast.optim.native import OptimizerState, optimizer_options
from dmf_fast.training.engines.protocol import thresholds
from dmf_fast.training.engines.rule_engine import CudaEngine
from dmf_fast.training.options import FitOptions

_STEPS_A_LOOK = 16  # between checks for the end of the run, which synchronize the GPU
_WARM_UP_STEPS = 3
# A capture starts by synchronizing the device, which would break a capture in another thread.
_CAPTURING = threading.Lock()


class CudaGraphEngine(CudaEngine):
    """A run of any size, step by step with `completion_loss` and autograd.

    Each step decides on the device whether the run continues, and steps after the end change nothing. So a
    step can be captured in a graph and replayed without checking each. On the CPU, where it is tested, there
    is no graph.
    """

    name = "cuda_graph"

    def _set_up(self, train: Observations, options: FitOptions) -> None:
        factors, device = self._model.factors, train.device
        self._train, self._reduction = train, options.reduction
        self._options = optimizer_options(self._optimizer)
        self._thresholds = thresholds(options)
        self._factors = [factor.detach().clone().requires_grad_() for factor in factors]
        moments = range(self._rule.rule.moments)
        self._moments = [[torch.zeros_like(factor) for factor in factors] for _ in moments]
        self._step, self._until, self._outcome = (
            torch.zeros((), dtype=torch.int64, device=device) for _ in range(3)
        )
        self._square_average, self._loss, self._gradient_norm = (
            torch.zeros((), dtype=torch.float64, device=device) for _ in range(3)
        )
        self._graph: torch.cuda.CUDAGraph | None = None
        if device.type == "cuda":
            with _CAPTURING, torch.cuda.device(device):
                self._capture(device)

    def run(self, until: int, *, most_seconds: float) -> Outcome:
        """Make updates until step ``until``, a stopping criterion or the time limit; see `Engine.run`."""
        deadline = time.perf_counter() + most_seconds
        until += self._updates_before
        self._until.fill_(until)
        left = until - self._updates + 1  # the last only measures
        while True:
            for _ in range(min(left, _STEPS_A_LOOK)):
                self._one_step() if self._graph is None else self._graph.replay()
            outcome = Outcome(int(self._outcome))
            left = until - self._updates + 1
            # Do not pause at `until`: the loss is that of the previous step, and one more step updates it.
            if outcome != Outcome.paused or (left > 1 and time.perf_counter() >= deadline):
                return outcome

    @property
    def _updates(self) -> int:
        return int(self._step)

    @property
    def loss(self) -> float:
        """Weighted mean squared residual of the present factors; invalid while the run is paused."""
        return float(self._loss)

    @property
    def gradient_norm(self) -> float:
        """Norm of all gradients together; invalid while the run is paused."""
        return float(self._gradient_norm)

    def _parameters(self) -> list[Tensor]:
        return [factor.detach().clone() for factor in self._factors]

    def _optimizer_state(self) -> OptimizerState:
        moments = [[moment.clone() for moment in moments] for moments in self._moments]
        return OptimizerState(self._updates, moments, [float(self._square_average)])

    def _set_parameters(self, parameters: Sequence[Tensor]) -> None:
        _copy(self._factors, parameters)

    def _set_optimizer_state(self, state: OptimizerState) -> None:
        for kept, given in zip(self._moments, state.moments, strict=True):
            _copy(kept, given)
        self._step.fill_(state.steps)
        self._square_average.fill_((state.scalars or [0.0])[0])

    def _capture(self, device: torch.device) -> None:
        """Capture a step; the warm-up steps change nothing, since the run is at its ``until``."""
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_STEPS):
                self._one_step()
        torch.cuda.current_stream(device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._one_step()

    def _one_step(self) -> None:
        """Measure the present factors and, where the run continues, update them."""
        with torch.enable_grad():
            loss = completion_loss(self._factors, self._train, self._reduction)
        gradients = torch.autograd.grad(loss, self._factors)
        with torch.no_grad():
            self._measure(loss, gradients)
            continues = self._outcome == int(Outcome.paused)
            self._step.add_(continues)
            self._update(list(gradients), continues)

    def _measure(self, loss: Tensor, gradients: Sequence[Tensor]) -> None:
        mean = loss.double() if self._reduction == "mean" else loss.double() / self._train.total_weight
        self._loss.copy_(mean)
        self._gradient_norm.copy_(_norm(gradients))
        train_loss, gradient_norm = self._thresholds
        # The last condition that holds decides, so they are in order of increasing priority.
        endings = (
            (self._step >= self._until, Outcome.reached),
            (self._gradient_norm <= gradient_norm, Outcome.gradient_norm_threshold),
            (self._loss <= train_loss, Outcome.train_loss_threshold),
            (~(self._loss.isfinite() & self._square_average.isfinite()), Outcome.diverged),
        )
        self._outcome.fill_(int(Outcome.paused))
        for holds, outcome in endings:
            self._outcome.copy_(torch.where(holds, int(outcome), self._outcome))

    def _update(self, gradients: list[Tensor], continues: Tensor) -> None:
        options, factors = self._options, [factor.detach() for factor in self._factors]
        if options["weight_decay"]:
            decay = options["weight_decay"]
            gradients = [g + decay * w for g, w in zip(gradients, factors, strict=True)]
        directions, step_size = self._directions(gradients, continues)
        for factor, direction in zip(factors, directions, strict=True):
            factor.copy_(torch.where(continues, factor - step_size.to(factor.dtype) * direction, factor))

    def _directions(self, gradients: list[Tensor], continues: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the direction of each factor, and the step size."""
        options, kind = self._options, self._rule.kind
        lr = torch.full_like(self._loss, options["lr"])
        if kind == RuleKind.group_rmsprop:
            alpha = options["alpha"]
            average = alpha * self._square_average + (1 - alpha) * _norm(gradients).square()
            self._square_average.copy_(torch.where(continues, average, self._square_average))
            corrected = self._square_average / (1 - alpha ** self._step.double())
            return gradients, lr / (corrected.sqrt() + options["eps"])
        if kind == RuleKind.adam:
            (beta1, _), step = options["betas"], self._step.double()
            return self._adam_directions(gradients, continues), lr / (1 - beta1**step)
        if not options["momentum"]:
            return gradients, lr
        (velocities,) = self._moments
        _blend(velocities, gradients, lambda v, g: options["momentum"] * v + g, continues)
        return velocities, lr

    def _adam_directions(self, gradients: list[Tensor], continues: Tensor) -> list[Tensor]:
        (beta1, beta2), eps = self._options["betas"], self._options["eps"]
        first, second = self._moments
        _blend(first, gradients, lambda u, g: u + (1 - beta1) * (g - u), continues)
        _blend(second, gradients, lambda v, g: beta2 * v + (1 - beta2) * g * g, continues)
        root = (1 - beta2 ** self._step.double()).sqrt()
        return [u / (v.sqrt() / root.to(v.dtype) + eps) for u, v in zip(first, second, strict=True)]


@torch.no_grad()
def _copy(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> None:
    for tensor, other in zip(tensors, others, strict=True):
        tensor.copy_(other)


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    """Return the norm of all gradients together, a float64 scalar."""
    norms = torch.stack([torch.linalg.vector_norm(g, dtype=torch.float64) for g in gradients])
    return torch.linalg.vector_norm(norms)


def _blend(
    moments: list[Tensor],
    gradients: list[Tensor],
    blend: Callable[[Tensor, Tensor], Tensor],
    continues: Tensor,
) -> None:
    for moment, gradient in zip(moments, gradients, strict=True):
        moment.copy_(torch.where(continues, blend(moment, gradient), moment))
