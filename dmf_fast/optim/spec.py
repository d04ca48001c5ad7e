"""An optimizer before it is bound to parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer class with its options, which may differ for the biases.

    `dmf_fast.fit` accepts one, and makes one from ``functools.partial(torch.optim.Adam, lr=1e-3)``.

    Attributes:
        optimizer: a callable that makes a `torch.optim.Optimizer` from parameters, or groups of them, and
            options.
        options: its keyword arguments.
        bias_options: options that override these for the biases of a model.

    Example:
        >>> OptimizerSpec.of(partial(torch.optim.SGD, lr=0.5)).describe()["lr"]
        0.5

    """

    optimizer: Callable[..., torch.optim.Optimizer]
    options: Mapping[str, Any] = field(default_factory=dict)
    bias_options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, optimizer: Callable[..., torch.optim.Optimizer] | OptimizerSpec) -> OptimizerSpec:
        """Return the spec of a class, a partial of one, or another callable.

        Raises:
            TypeError: ``optimizer`` is not callable, or a partial has positional arguments.

        """
        if isinstance(optimizer, OptimizerSpec):
            return optimizer
        if not callable(optimizer):
            raise TypeError(
                "`optimizer` must be a torch optimizer or a callable that makes one from parameters, such as "
                f"functools.partial(torch.optim.Adam, lr=1e-3), got {type(optimizer).__name__}"
            )
        if not isinstance(optimizer, partial):
            return cls(optimizer)
        if optimizer.args:
            raise TypeError(
                "`optimizer` must have its options as keywords, got the positional arguments "
                f"{optimizer.args}; use functools.partial(torch.optim.Adam, lr=1e-3)"
            )
        return cls(optimizer.func, dict(optimizer.keywords))

    @property
    def name(self) -> str:
        """The name of the class, or of the function."""
        return getattr(self.optimizer, "__name__", type(self.optimizer).__name__)

    def all_options(self) -> dict[str, Any]:
        """Return the options, with defaults for those that are not given."""
        return {**_defaults(self.optimizer), **self.options}

    def describe(self) -> dict[str, float | str]:
        """Return the name and the numeric options, for tables and checkpoints.

        >>> from dmf_fast.optim import GroupRMSprop
        >>> OptimizerSpec.of(partial(GroupRMSprop, lr=0.5)).describe()["optimizer"]
        'GroupRMSprop'
        """
        described: dict[str, float | str] = {"optimizer": self.name}
        for name, value in self.all_options().items():
            described |= _described(name, value)
        for name, value in self.bias_options.items():
            described |= _described(f"bias_{name}", value)
        return described

    def make(self, factors: Iterable[Tensor], biases: Iterable[Tensor] = ()) -> torch.optim.Optimizer:
        """Return the torch optimizer of the parameters; with ``bias_options`` the biases are a second group.

        Otherwise there is a single group, the only form that some optimizers accept, such as L-BFGS.

        Args:
            factors: matrices, ``W_j`` of shape ``(d_j, d_{j-1})``.
            biases: vectors, ``(m,)`` and ``(n,)``, or none.

        Raises:
            TypeError: the callable does not return a torch optimizer.

        """
        first, last = list(factors), list(biases)
        apart = [{"params": first}, {"params": last, **self.bias_options}]
        made = self.optimizer(apart if last and self.bias_options else first + last, **self.options)
        if not isinstance(made, torch.optim.Optimizer):
            raise TypeError(
                f"`optimizer` must make a torch optimizer, got {self.name}, which makes {type(made).__name__}"
            )
        return made


OptimizerLike: TypeAlias = torch.optim.Optimizer | Callable[..., torch.optim.Optimizer] | OptimizerSpec
"""What `dmf_fast.fit` accepts as an optimizer."""


def _defaults(optimizer: Callable[..., Any]) -> dict[str, Any]:
    try:
        parameters = inspect.signature(optimizer).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _described(name: str, value: Any) -> dict[str, float]:
    """Return the columns of one option: none for flags and None, two for a pair such as ``betas``."""
    if isinstance(value, bool) or value is None:
        return {}
    if isinstance(value, (int, float)):
        return {name: float(value)}
    if isinstance(value, tuple):
        return {f"{name}_{place}": float(one) for place, one in enumerate(value, start=1)}
    return {}
