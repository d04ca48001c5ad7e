"""Runs with any torch optimizer: a loop over the loss, its backward pass and ``optimizer.step``."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from dmf_fast._native import Outcome
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.optim import AdaptiveGradientDescent, GroupRMSprop
from dmf_fast.optim.norms import norms
from dmf_fast.sharding import local_part
from dmf_fast.training.batches import Batches
from dmf_fast.training.engines.protocol import EngineState, thresholds
from dmf_fast.training.errors import mean_squared_error
from dmf_fast.training.options import FitOptions

# Below this number of entries times hidden units, a second thread costs more than it saves, and a hundred
# times as much on a busy machine, because of OpenMP barriers.
_SMALL_PROBLEM = 1_000_000


class TorchEngine:
    """A run on the model itself, with all entries or a batch of them in each step.

    >>> train = Observations([0, 1, 1], [0, 0, 1], [1.0, 2.0, 2.0])
    >>> model = DeepMatrixFactorization.of_factors([torch.eye(2), torch.eye(2)])
    >>> engine = TorchEngine(model, train, torch.optim.SGD(model.parameters(), lr=0.1), FitOptions())
    >>> engine.run(10, most_seconds=60.0).name, engine.step
    ('reached', 10)
    """

    name = "torch"

    def __init__(
        self,
        model: DeepMatrixFactorization,
        train: Observations,
        optimizer: torch.optim.Optimizer,
        options: FitOptions,
        given: Sequence[Tensor] | None = None,
        scheduler: LRScheduler | None = None,
    ) -> None:
        """Train in place; ``given`` are the tensors that ``optimizer`` holds."""
        self._model, self._optimizer, self._scheduler, self._options = model, optimizer, scheduler, options
        # The caller's tensors, which share memory with the parameters, get the gradients as well.
        self._aliases = [] if given is None else list(zip(given, model.parameter_list, strict=True))
        self._batches = Batches(train, options.batches, options.seed or 0)
        self._thresholds = thresholds(options)
        self._takes_closure = _takes_closure(optimizer)
        self._sharding = train.sharding
        takes_norms = isinstance(optimizer, (AdaptiveGradientDescent, GroupRMSprop))
        if self._sharding.reproducible and (takes_norms or options.gradient_clip is not None):
            raise ValueError(
                "`reproducible` must be False if torch makes the steps of an optimizer that uses norms, or "
                "clips gradients, got True; use another optimizer, or one batch and no scheduler, so that "
                "native code makes the steps"
            )
        if self._takes_closure and self._sharding.mesh is not None:
            raise ValueError(
                "`optimizer` must not need a closure if processes share the rows, got "
                f"{type(optimizer).__name__}; use one such as torch.optim.Adam"
            )
        self._step = 0
        # Loss of the present parameters, with its graph until it is differentiated.
        self._loss: Tensor | None = None
        self._gradient_norm: Tensor | None = None
        self._kept: dict[str, Tensor] | None = None
        # Reading a number synchronizes a GPU, so it is done only if something depends on it.
        self._looks = model.mean.device.type == "cpu" or max(self._thresholds) >= 0
        self._is_small = train.nnz // options.batches * min(model.dims) < _SMALL_PROBLEM

    def run(self, until: int, *, most_seconds: float) -> Outcome:
        """Make updates until step ``until``, a stopping criterion or the time limit; see `Engine.run`."""
        threads = torch.get_num_threads()
        if self._is_small and threads > 1:
            torch.set_num_threads(1)
        try:
            return self._run(until, time.perf_counter() + most_seconds)
        finally:
            torch.set_num_threads(threads)

    def _run(self, until: int, deadline: float) -> Outcome:
        first = self._step
        while True:
            self._evaluate()
            reached = self._step >= until
            if (self._looks or reached) and (outcome := self._ending()) is not None:
                return outcome
            if reached:
                return Outcome.reached
            if self._step > first and self._is_late(deadline):
                return Outcome.paused
            self._update()

    def _is_late(self, deadline: float) -> bool:
        """Return whether the time is over in any process, since all must pause at the same step."""
        return self._sharding.any_wants(time.perf_counter() > deadline)

    @property
    def step(self) -> int:
        """Number of updates made."""
        return self._step

    @property
    def loss(self) -> float:
        """Weighted mean squared residual on the entries of the present step."""
        assert self._loss is not None
        loss = self._loss.item()
        whole = self._options.reduction == "sum"
        return loss / self._batches.at(self._step).total_weight if whole else loss

    @property
    def gradient_norm(self) -> float:
        """Norm of all gradients together."""
        return self._differentiate().item()

    def mean_squared_error(self, observations: Observations) -> float:
        """Return the weighted mean squared residual on other entries."""
        return mean_squared_error(self._model, observations)

    def model(self) -> DeepMatrixFactorization:
        """Return the model, which holds the present parameters."""
        return self._model

    def keep(self) -> None:
        """Keep a copy of the present parameters."""
        self._kept = _copies(self._model)

    def state(self) -> EngineState:
        """Return a copy of the state, without torch's generators."""
        optimizer: dict[str, Any] = {"optimizer": deepcopy(self._optimizer.state_dict())}
        if self._scheduler is not None:
            optimizer["scheduler"] = deepcopy(self._scheduler.state_dict())
        return EngineState(self._step, _copies(self._model), self._kept, optimizer)

    def resume(self, state: EngineState) -> None:
        """Restore a state returned by `state`."""
        self._step, self._kept, self._loss = state.step, state.kept, None
        _load_parameters(self._model, state.parameters)
        _load_optimizer(self._optimizer, state.optimizer["optimizer"])
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state.optimizer["scheduler"])

    def finish(self, *, best: bool) -> None:
        """Set the model to the kept or the present parameters."""
        if best and self._kept is not None:
            _load_parameters(self._model, self._kept)

    def _evaluate(self) -> None:
        if self._loss is None:
            self._loss = self._model.loss(self._batches.at(self._step), self._options.reduction)
            self._gradient_norm = None

    def _ending(self) -> Outcome | None:
        """Return the outcome if a stopping criterion holds, else None."""
        loss, (least_loss, least_norm) = self.loss, self._thresholds
        if not math.isfinite(loss):
            return Outcome.diverged
        if loss <= least_loss:
            return Outcome.train_loss_threshold
        if least_norm >= 0 and self.gradient_norm <= least_norm:
            return Outcome.gradient_norm_threshold
        return None

    def _differentiate(self) -> Tensor:
        """Compute the gradients of the present loss, once, and return their norm."""
        assert self._loss is not None
        if self._gradient_norm is None:
            self._backward(self._loss)
            self._loss = self._loss.detach()
            gradients = [p.grad for p in self._model.parameters() if p.grad is not None]
            if self._sharding.mesh is None:
                self._gradient_norm = torch.nn.utils.get_total_norm(gradients)
            else:
                self._gradient_norm = norms(gradients).norm()
        return self._gradient_norm

    def _update(self) -> None:
        norm, clip = self._differentiate(), self._options.gradient_clip
        if clip is not None:
            torch.nn.utils.clip_grads_with_norm_(_with_local_gradients(self._model), clip, norm)
        if self._takes_closure:
            self._optimizer.step(closure=self._closure())  # type: ignore[arg-type]
        else:
            self._optimizer.step()
        if self._scheduler is not None:
            self._scheduler.step()
        self._step += 1
        self._loss = None

    def _closure(self) -> Callable[[], Tensor]:
        """Return the closure that an optimizer such as L-BFGS calls at each trial point.

        Nothing is recomputed if the loss and the gradients are those of the present point.
        """
        batch, clip = self._batches.at(self._step), self._options.gradient_clip
        known, known_loss = self._point(), self._loss

        def closure() -> Tensor:
            if known_loss is not None and self._point() == known:
                return known_loss
            loss = self._model.loss(batch, self._options.reduction)
            self._backward(loss)
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(self._model.parameters(), clip)
            return loss

        return closure

    def _point(self) -> list[tuple[int, int, int, int]]:
        """Return a fingerprint of parameters and gradients that changes if they are modified in place."""
        parameters = [p for p in self._model.parameters() if p.grad is not None]
        tensors = [(p, p.grad) for p in parameters]
        return [(p.data_ptr(), p._version, id(g), g._version) for p, g in tensors if g is not None]

    def _backward(self, loss: Tensor) -> None:
        self._optimizer.zero_grad()
        self._model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for tensor, parameter in self._aliases:
            tensor.grad = parameter.grad


def _takes_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether steps get a closure; optimizers of torch and dmf_fast only if they require it."""
    parameters = inspect.signature(optimizer.step).parameters
    closure = parameters.get("closure")
    if closure is None:
        return any(one.kind == inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    own = type(optimizer).__module__.partition(".")[0] in ("torch", "dmf_fast")
    return closure.default is inspect.Parameter.empty or not own


def _with_local_gradients(model: DeepMatrixFactorization) -> list[Tensor]:
    """Return the local parts of the parameters, with gradients that share memory with the originals."""
    local = []
    for parameter in model.parameters():
        own = local_part(parameter.detach())
        own.grad = None if parameter.grad is None else local_part(parameter.grad)
        local.append(own)
    return local


def _copies(model: DeepMatrixFactorization) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@torch.no_grad()
def _load_parameters(model: DeepMatrixFactorization, saved: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(saved[name])


def _load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load ``saved`` with its own dtypes; torch would round all to those of the parameters."""
    optimizer.load_state_dict(saved)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for place, kept in saved["state"].items():
        state = optimizer.state[parameters[place]]
        tensors = {name: value for name, value in kept.items() if isinstance(value, Tensor)}
        state.update({name: value.to(state[name].device) for name, value in tensors.items()})
