"""Gradient descent with an adaptive step size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from dmf_fast.optim.norms import norm, norms

# Length of the first step, from which the curvature is estimated, relative to the norm of the parameters.
_FIRST_LENGTH = 1e-3


class AdaptiveGradientDescent(torch.optim.Optimizer):
    """Gradient descent whose step size adapts to the curvature between the last two points.

    With ``x_t`` all parameters and ``g_t`` all gradients together, step ``t`` is::

        s_t ← min(sqrt(1 + s_{t−1} / s_{t−2}) · s_{t−1},  ‖x_t − x_{t−1}‖ / (2 ‖g_t − g_{t−1}‖))
        x_{t+1} ← x_t − lr · s_t · g_t

    (Malitsky & Mishchenko, "Adaptive Gradient Descent without Descent", ICML 2020, algorithm 1.) Nothing has
    to be tuned: it follows the path of gradient descent and so keeps its preference for low rank, without
    oscillations where the loss is steep or wasted steps where it is flat. Every step must see the same
    function, the loss over all entries; do not use it with minibatches. Each step reads norms from the device
    twice.

    Args:
        params: parameters or groups of them, as for every torch optimizer.
        lr: factor of every step; 1 is the published method.
        weight_decay: L2 penalty: ``weight_decay · W`` is added to the gradient.

    Raises:
        ValueError: an option is negative.

    Example:
        >>> weight = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> optimizer = AdaptiveGradientDescent([weight])
        >>> for _ in range(20):
        ...     optimizer.zero_grad()
        ...     weight.square().sum().backward()
        ...     optimizer.step()
        >>> weight.norm().item() < 1e-3
        True

    """

    def __init__(self, params: ParamsT, lr: float = 1.0, *, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group after checking its options."""
        options = {**self.defaults, **param_group}
        for name in ("lr", "weight_decay"):
            if not options[name] >= 0:
                raise ValueError(f"`{name}` must be at least 0, got {options[name]}")
        super().add_param_group(param_group)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update the parameters that have a gradient; ``closure`` recomputes the loss, which is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = [(group, [p for p in group["params"] if p.grad is not None]) for group in self.param_groups]
        parameters = [parameter for _, own in groups for parameter in own]
        if not parameters:
            return loss
        gradients = [
            torch.add(parameter.grad, parameter, alpha=group["weight_decay"])
            for group, own in groups
            for parameter in own
        ]
        rates = [group["lr"] for group, own in groups for _ in own]
        size = self._step_size(parameters, gradients, rates)
        for parameter, gradient, rate in zip(parameters, gradients, rates, strict=True):
            parameter.add_(gradient, alpha=-rate * size)
            self.state[parameter]["gradient"] = gradient
        return loss

    def _step_size(self, parameters: list[Tensor], gradients: list[Tensor], rates: list[float]) -> float:
        """Return the size of this step, and store what the next step needs."""
        shared, of_gradients = self.state[parameters[0]], norms(gradients)
        moved = shared.get("length", 0.0)
        if not moved or any("gradient" not in self.state[parameter] for parameter in parameters):
            steepness = norm(of_gradients)
            usable = 0 < steepness < math.inf
            size = _FIRST_LENGTH * (norm(norms(parameters)) or 1.0) / steepness if usable else 1.0
            growth = math.inf
        else:
            before = [self.state[parameter]["gradient"] for parameter in parameters]
            turned = norm(norms(torch._foreach_sub(gradients, before)))
            longest = math.sqrt(1 + shared["growth"]) * shared["size"]
            size = min(longest, moved / (2 * turned)) if turned else longest
            size = size if math.isfinite(size) else shared["size"]
            growth = size / shared["size"]
        steps = of_gradients * of_gradients.new_tensor(rates)
        shared.update(size=size, growth=growth, length=size * norm(steps))
        return size
