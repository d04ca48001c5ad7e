"""Choice of the engine that makes the steps of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.optim.native import NotNative
from dmf_fast.optim.spec import OptimizerSpec
from dmf_fast.training.engines.cuda_block import CudaBlockEngine
from dmf_fast.training.engines.cuda_graph import CudaGraphEngine
from dmf_fast.training.engines.native import NativeEngine
from dmf_fast.training.engines.protocol import Engine
from dmf_fast.training.engines.rule_engine import CudaEngine
from dmf_fast.training.engines.torch import TorchEngine
from dmf_fast.training.options import FitOptions

_NATIVE: dict[str, type[Any]] = {
    "native": NativeEngine,
    "cuda_block": CudaBlockEngine,
    "cuda_graph": CudaGraphEngine,
}


def make_engine(
    model: DeepMatrixFactorization,
    train: Observations,
    optimizer: torch.optim.Optimizer | OptimizerSpec,
    options: FitOptions,
    given: Sequence[Tensor] | None = None,
    scheduler: LRScheduler | Callable[[torch.optim.Optimizer], LRScheduler | None] | None = None,
) -> tuple[Engine, str | None]:
    """Return the engine for a run, and the reason why it is not native, if it is not.

    ``options.engine`` names it; ``"auto"`` selects native code if that computes the same: ``"native"`` on the
    CPU and, on a GPU, ``"cuda_block"`` if the problem fits into a thread block, else ``"cuda_graph"``.
    ``"torch"`` handles all other cases.

    Args:
        model: the model; all arguments must have been checked.
        train: observed entries.
        optimizer: bound to the parameters, or a spec.
        options: of the run.
        given: the tensors that a bound optimizer holds, if the parameters share their memory.
        scheduler: of a bound optimizer, or a function that makes one.

    Raises:
        ValueError: the engine that ``options`` names does not support the run.

    """
    _check_scheduler(scheduler, optimizer)
    wanted = options.engine
    reasons: list[NotNative] = []
    if wanted != "torch":
        on_gpu = train.device.type == "cuda"
        automatic = ("cuda_block", "cuda_graph") if on_gpu else ("native",)
        for name in automatic if wanted == "auto" else (wanted,):
            try:
                _check_loop(options, scheduler)
                return _NATIVE[name](model, train, optimizer, options, given), None
            except NotNative as reason:
                reasons.append(reason)
    if wanted not in ("auto", "torch"):
        raise _refused(wanted, reasons[0])
    if isinstance(optimizer, OptimizerSpec):
        optimizer = optimizer.make(*_of_factors_and_others(model, given))
    if not (scheduler is None or isinstance(scheduler, LRScheduler)):
        scheduler = scheduler(optimizer)
    engine: Any = TorchEngine(model, train, optimizer, options, given, scheduler)
    return engine, str(reasons[-1]) if reasons else "torch was requested"


def engine_for(
    model: DeepMatrixFactorization,
    train: Observations,
    optimizer: torch.optim.Optimizer | OptimizerSpec,
    options: FitOptions,
    given: Sequence[Tensor] | None = None,
) -> str:
    """Return which engine `make_engine` chooses, and why it is not native, if it is not.

    >>> train = Observations([0], [0], [1.0])
    >>> model = DeepMatrixFactorization.of_factors([torch.eye(1)])
    >>> engine_for(model, train, OptimizerSpec(torch.optim.AdamW), FitOptions())
    'torch, since AdamW has no native step'
    """
    if options.engine == "torch":
        return "torch, since torch was requested"
    on_gpu, wanted = train.device.type == "cuda", options.engine
    automatic = CudaEngine if on_gpu else NativeEngine
    try:
        _check_loop(options, None)
        _NATIVE.get(wanted, automatic).rule_of(model, train, optimizer, options, given)
    except NotNative as reason:
        if wanted != "auto":
            raise _refused(wanted, reason) from None
        return f"torch, since {reason}"
    if wanted != "auto":
        return wanted
    return "cuda_block if the problem fits into a block, else cuda_graph" if on_gpu else "native"


def _of_factors_and_others(
    model: DeepMatrixFactorization, given: Sequence[Tensor] | None
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parameters that an optimizer trains, for factors and others separately."""
    if given is not None:
        return list(given), []
    factors: list[Tensor] = list(model.factors.parameters())
    known = {id(parameter) for parameter in factors}
    return factors, [parameter for parameter in model.parameters() if id(parameter) not in known]


def _check_loop(options: FitOptions, scheduler: object) -> None:
    if options.batches > 1:
        raise NotNative("batches have no native step")
    if scheduler is not None:
        raise NotNative("a scheduler changes the learning rate")


def _check_scheduler(scheduler: object, optimizer: torch.optim.Optimizer | OptimizerSpec) -> None:
    if isinstance(scheduler, LRScheduler) and scheduler.optimizer is not optimizer:
        raise ValueError(
            "`scheduler` must be a scheduler of `optimizer`, or a function that makes one from an optimizer, "
            "got a scheduler of another optimizer"
        )
    if not (scheduler is None or isinstance(scheduler, LRScheduler) or callable(scheduler)):
        raise TypeError(
            "`scheduler` must be a scheduler of `optimizer`, or a function that makes one from an optimizer, "
            f"got {type(scheduler).__name__}"
        )


def _refused(engine: str, reason: NotNative) -> ValueError:
    return ValueError(f"`engine` must support these steps, got {engine!r}: {reason}")
