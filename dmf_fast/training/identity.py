"""What makes a run the one that a checkpoint belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from dmf_fast.files.identity import sha256_of
from dmf_fast.observations import Observations
from dmf_fast.ops.costs import matmul_precision
from dmf_fast.training.descent_options import DescentOptions
from dmf_fast.training.options import FitOptions
from dmf_fast.training.recording import Recording
from dmf_fast.training.rules import Rule, describe_rule

# When to stop, and what is shown or kept meanwhile, may differ when a run goes on.
_FREE_OPTIONS = {
    "steps",
    "train_loss_threshold",
    "gradient_norm_threshold",
    "patience",
    "progress",
    "checkpoint_every",
    "max_seconds",
}


def identity_of_run(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    options: FitOptions,
    data: dict[str, Observations | None],
) -> dict[str, Any]:
    """Return what must agree between a run and the one that goes on with it, by name.

    >>> weight = torch.nn.Linear(2, 1, bias=False)
    >>> optimizer = torch.optim.SGD(weight.parameters(), lr=0.5)
    >>> identity_of_run(weight, optimizer, FitOptions(), {})["model.weight"]
    'torch.float32 (1, 2)'
    """
    identity: dict[str, Any] = {
        f"model.{name}": f"{tensor.dtype} {tuple(tensor.shape)}"
        for name, tensor in model.state_dict().items()
    }
    for parameter in model.parameters():
        device = parameter.device.type
        identity[f"products on {device}"] = matmul_precision(device, parameter.dtype)
    identity |= _binding_options(options)
    identity["optimizer"] = type(optimizer).__name__
    for place, group in enumerate(optimizer.param_groups):
        identity |= {
            f"optimizer.param_groups[{place}].{name}": value.tolist() if isinstance(value, Tensor) else value
            for name, value in group.items()
            if name != "params"
        }
        identity[f"optimizer.param_groups[{place}].params"] = [tuple(p.shape) for p in group["params"]]
    return identity | _digests(data)


def identity_of_descent(
    factors: Sequence[Tensor],
    rule: Rule,
    options: DescentOptions,
    recording: Recording,
    data: dict[str, Observations | None],
    truth: Tensor | None = None,
) -> dict[str, Any]:
    """Return the same for a run of `descend`.

    >>> from dmf_fast.training.rules import GradientDescent
    >>> rule = GradientDescent(lr=0.5)
    >>> identity_of_descent([torch.eye(2)], rule, DescentOptions(), Recording(), {})["rule.lr"]
    0.5
    """
    identity: dict[str, Any] = {
        f"factors[{place}]": f"{factor.dtype} {tuple(factor.shape)}" for place, factor in enumerate(factors)
    }
    device = factors[0].device.type
    identity[f"products on {device}"] = matmul_precision(device, factors[0].dtype)
    identity |= {f"rule.{name}": value for name, value in describe_rule(rule).items()}
    identity |= _binding_options(options)
    identity |= {f"recording.{name}": value for name, value in asdict(recording).items()}
    identity["truth"] = None if truth is None else sha256_of(truth)
    return identity | _digests(data)


def _binding_options(options: FitOptions | DescentOptions) -> dict[str, Any]:
    return {f"options.{name}": value for name, value in asdict(options).items() if name not in _FREE_OPTIONS}


def _digests(data: dict[str, Observations | None]) -> dict[str, str | None]:
    return {
        name: None if observations is None else observations.digest() for name, observations in data.items()
    }
