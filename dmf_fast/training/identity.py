"""The identity of a run, which a checkpoint must match."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from dmf_fast.files.identity import sha256_of
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.ops.costs import matmul_precision
from dmf_fast.optim.spec import OptimizerSpec
from dmf_fast.training.measures import Measures
from dmf_fast.training.options import FitOptions

# Options about stopping, display and checkpoints may differ when a run resumes.
_FREE_OPTIONS = {
    "steps",
    "train_loss_threshold",
    "gradient_norm_threshold",
    "patience",
    "patience_after",
    "progress",
    "checkpoint_every",
    "max_seconds",
    "engine",
}


def identity_of_run(
    model: DeepMatrixFactorization,
    optimizer: torch.optim.Optimizer | OptimizerSpec,
    options: FitOptions,
    measures: Measures,
    data: dict[str, Observations | None],
    engine: str,
    scheduler: object = None,
) -> dict[str, Any]:
    """Return, by name, what must agree between a run and the run that resumes it.

    >>> model = DeepMatrixFactorization.of_factors([torch.eye(2)])
    >>> spec = OptimizerSpec(torch.optim.SGD, {"lr": 0.5})
    >>> identity_of_run(model, spec, FitOptions(), Measures(), {}, "native")["optimizer.lr"]
    0.5
    """
    device, dtype = model.mean.device.type, model.mean.dtype
    identity: dict[str, Any] = {
        f"model.{name}": f"{tensor.dtype} {tuple(tensor.shape)}"
        for name, tensor in model.state_dict().items()
    }
    identity["engine"] = engine
    identity["scheduler"] = "none" if scheduler is None else getattr(type(scheduler), "__name__", "")
    identity[f"products on {device}"] = matmul_precision(device, dtype)
    identity |= {f"options.{n}": value for n, value in asdict(options).items() if n not in _FREE_OPTIONS}
    identity |= {f"recording.{name}": value for name, value in asdict(measures.recording).items()}
    of_optimizer, train = _of_optimizer(optimizer), data.get("train")
    if train is not None and train.parts[0] is not train:
        # The last digits of numbers computed from the entries depend on the number of processes.
        for name, value in of_optimizer.items():
            of_optimizer[name] = float(f"{value:.6g}") if isinstance(value, float) else value
    identity |= of_optimizer
    identity["truth"] = None if measures.truth is None else sha256_of(measures.truth)
    return identity | {name: None if one is None else one.digest() for name, one in data.items()}


def _plain(option: Any) -> Any:
    """Return an option as a JSON value: a tensor as numbers, several tensors as their hash."""
    if isinstance(option, Tensor):
        return option.tolist()
    if isinstance(option, (list, tuple)) and any(isinstance(one, Tensor) for one in option):
        return sha256_of(*(one for one in option if isinstance(one, Tensor)))
    return option


def _of_optimizer(optimizer: torch.optim.Optimizer | OptimizerSpec) -> dict[str, Any]:
    if isinstance(optimizer, OptimizerSpec):
        described = optimizer.describe()
        return {"optimizer": described.pop("optimizer")} | {
            f"optimizer.{name}": value for name, value in described.items()
        }
    identity: dict[str, Any] = {"optimizer": type(optimizer).__name__}
    for place, group in enumerate(optimizer.param_groups):
        identity |= {
            f"optimizer.param_groups[{place}].{name}": _plain(value)
            for name, value in group.items()
            if name != "params"
        }
        identity[f"optimizer.param_groups[{place}].params"] = [tuple(p.shape) for p in group["params"]]
    return identity
