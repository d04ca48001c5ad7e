"""Optimisers by name, with the weight decay of factors and biases apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.optim import AdaptiveGradientDescent, GroupRMSprop

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adaptive-gd": AdaptiveGradientDescent,
    "gd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "group-rmsprop": GroupRMSprop,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "adagrad": torch.optim.Adagrad,
    "adamax": torch.optim.Adamax,
}


def make_optimizer(
    name: str,
    model: DeepMatrixFactorization,
    lr: float,
    weight_decay: float = 0.0,
    bias_weight_decay: float | None = None,
) -> torch.optim.Optimizer:
    """Return the optimiser called ``name`` (a key of `OPTIMIZERS`) of the parameters of ``model``.

    ``bias_weight_decay`` is that of the biases; without it they have ``weight_decay`` too. An unknown name
    raises a `ValueError`.

    >>> model = DeepMatrixFactorization((4, 3), depth=2, seed=0)
    >>> type(make_optimizer("adam", model, lr=0.01)).__name__
    'Adam'
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, but {name!r} came.")
    groups = [{"params": list(model.factors), "weight_decay": weight_decay}]
    biases = [bias for bias in (model.row_bias, model.column_bias) if bias is not None]
    if biases:
        decay = weight_decay if bias_weight_decay is None else bias_weight_decay
        groups.append({"params": biases, "weight_decay": decay})
    return OPTIMIZERS[name](groups, lr=lr)
