"""Which engine makes the steps of a run."""

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
    """Return what makes the steps, and why it is not native code where it is not.

    ``options.engine`` names one; ``"auto"`` is native code where that computes the same: on the CPU
    ``"native"``, on a GPU ``"cuda_block"`` where the problem fits into a block of threads and else
    ``"cuda_graph"``. For all that these cannot do there is ``"torch"``.

    Args:
        model: checked, as are the others.
        train: observed entries.
        optimizer: bound to the parameters, or a spec.
        options: of the run.
        given: the tensors that a bound optimizer knows the parameters by, where these share their memory.
        scheduler: of a bound optimizer, or a function that makes one.

    Raises:
        ValueError: the engine that ``options`` names cannot make these steps.

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
            except NotNative as reason:  # noqa: PERF203 (of two engines)
                reasons.append(reason)
    if wanted not in ("auto", "torch"):
        raise _refused(wanted, reasons[0])
    if isinstance(optimizer, OptimizerSpec):
        optimizer = optimizer.make(*_of_factors_and_others(model, given))
    if not (scheduler is None or isinstance(scheduler, LRScheduler)):
        scheduler = scheduler(optimizer)
    engine: Any = TorchEngine(model, train, optimizer, options, given, scheduler)
    return engine, str(reasons[-1]) if reasons else "torch was asked for"


def engine_for(
    model: DeepMatrixFactorization,
    train: Observations,
    optimizer: torch.optim.Optimizer | OptimizerSpec,
    options: FitOptions,
    given: Sequence[Tensor] | None = None,
) -> str:
    """Say which engine `make_engine` chooses, and why it is not native code where it is not.

    >>> train = Observations([0], [0], [1.0])
    >>> model = DeepMatrixFactorization.of_factors([torch.eye(1)])
    >>> engine_for(model, train, OptimizerSpec(torch.optim.AdamW), FitOptions())
    'torch, since AdamW has no native step'
    """
    if options.engine == "torch":
        return "torch, since torch was asked for"
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
    return "cuda_block where the problem fits into a block, else cuda_graph" if on_gpu else "native"


def _of_factors_and_others(
    model: DeepMatrixFactorization, given: Sequence[Tensor] | None
) -> tuple[list[Tensor], list[Tensor]]:
    """Return what an optimizer trains of a model: what it learns, also where factors are computed of that."""
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
            "`scheduler` must be one of the `optimizer` that is given, or a function that makes one of an "
            "optimizer, got one of another optimizer"
        )
    if not (scheduler is None or isinstance(scheduler, LRScheduler) or callable(scheduler)):
        raise TypeError(
            "`scheduler` must be one of the `optimizer` that is given, or a function that makes one of an "
            f"optimizer, got {type(scheduler).__name__}"
        )


def _refused(engine: str, reason: NotNative) -> ValueError:
    return ValueError(f"`engine` must be one that can make these steps, got {engine!r}: {reason}")
