"""Optimizers by name, with separate weight decays for factors and biases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from dmf_fast.checks import one_of
from dmf_fast.optim import AdaptiveGradientDescent, GroupRMSprop, OptimizerSpec, PreconditionedLBFGS

OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]] = {
    "lbfgs": (PreconditionedLBFGS, {}),
    "adaptive-gd": (AdaptiveGradientDescent, {}),
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "group-rmsprop": (GroupRMSprop, {}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
    "nadam": (torch.optim.NAdam, {}),
    "radam": (torch.optim.RAdam, {}),
    "adagrad": (torch.optim.Adagrad, {}),
    "adamax": (torch.optim.Adamax, {}),
}
"""Optimizer classes and their options, by the names of `CompletionOptions.optimizer`."""


def optimizer_spec(
    name: str, lr: float, weight_decay: float = 0.0, bias_weight_decay: float | None = None
) -> OptimizerSpec:
    """Return the optimizer called ``name``, a key of `OPTIMIZERS`.

    ``bias_weight_decay`` applies to the biases and defaults to ``weight_decay``. Raises a `ValueError` for an
    unknown name.

    >>> optimizer_spec("adam", lr=0.01).name
    'Adam'
    """
    optimizer, options = OPTIMIZERS[one_of("optimizer", name, OPTIMIZERS)]
    bias_options = {} if bias_weight_decay is None else {"weight_decay": bias_weight_decay}
    return OptimizerSpec(optimizer, {**options, "lr": lr, "weight_decay": weight_decay}, bias_options)
