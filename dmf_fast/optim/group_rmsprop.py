"""RMSprop with one step size for all parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT, StateDict

from dmf_fast.optim.norms import norms
from dmf_fast.sharding import is_sharded, local_part


class GroupRMSprop(torch.optim.Optimizer):
    """RMSprop that normalizes by the norm of *all* gradients together instead of entry by entry.

    With ``g`` the gradients of all parameters of all groups together, step ``t`` is::

        v ← alpha · v + (1 − alpha) · Σ‖g‖²
        W ← W − lr / (sqrt(v / (1 − alpha^t)) + eps) · g

    The direction is that of gradient descent, which preserves its implicit regularization, while runs with a
    small initialization leave the origin in reasonable time. Do not capture a step in a CUDA graph: replays
    would repeat the bias correction of the captured step.

    Args:
        params: parameters or groups of them, as for every torch optimizer.
        lr: learning rate, at least 0; may differ between groups.
        alpha: decay rate of the average, in [0, 1); the same for all groups.
        eps: added to the root, at least 0; may differ between groups.
        weight_decay: L2 penalty: ``weight_decay · W`` is added to the gradient; may differ between groups.

    Raises:
        ValueError: an option is out of range, or ``alpha`` differs between groups.
        RuntimeError: a gradient is sparse (raised by `step`).

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> optimizer = GroupRMSprop([weight], lr=1.0, eps=0.0)
        >>> weight.square().sum().div(2).backward(); optimizer.step(); weight.detach()
        tensor([2.4000, 3.2000])

    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        alpha: float = 0.99,
        eps: float = 1e-6,
        *,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group after checking its options."""
        options = {**self.defaults, **param_group}
        for name in ("lr", "eps", "weight_decay"):
            if not options[name] >= 0:
                raise ValueError(f"`{name}` must be at least 0, got {options[name]}")
        if not 0 <= options["alpha"] < 1:
            raise ValueError(f"`alpha` must be at least 0 and below 1, got {options['alpha']}")
        if self.param_groups and options["alpha"] != self.param_groups[0]["alpha"]:
            raise ValueError(
                f"`alpha` must be the same in all groups, which share one average, got {options['alpha']} "
                f"after {self.param_groups[0]['alpha']}"
            )
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
        groups = [(group, *_with_gradients(group)) for group in self.param_groups]
        gradients = [gradient for _, _, gradients in groups for gradient in gradients]
        if not gradients:
            return loss
        root = self._update_average(gradients).sqrt()
        for group, parameters, gradients in groups:
            step_size = group["lr"] / (root + group["eps"])
            own = [local_part(gradient) for gradient in gradients]
            sizes = [step_size.to(gradient) for gradient in own]
            torch._foreach_addcmul_([local_part(one) for one in parameters], own, sizes, value=-1)
        return loss

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Load what `state_dict` returned; the average remains float64 for any dtype of the parameters."""
        super().load_state_dict(state_dict)
        # The base class casts the state to the dtype of the parameter, which would round the average.
        saved = state_dict["state"].get(state_dict["param_groups"][0]["params"][0])
        if saved:
            average = saved["square_average"]
            self.state[self._keeper()]["square_average"] = average.to(self._keeper().device, copy=True)

    def _update_average(self, gradients: list[Tensor]) -> Tensor:
        """Update the average with the gradients and return it, bias-corrected, as a float64 scalar."""
        keeper = self._keeper()
        state, alpha = self.state[keeper], self.param_groups[0]["alpha"]
        if not state:
            state["step"] = 0
            state["square_average"] = torch.zeros((), dtype=torch.float64, device=keeper.device)
        state["step"] += 1
        total = _sum_of_squares(gradients, keeper.device)
        average: Tensor = state["square_average"].mul_(alpha).add_(total, alpha=1 - alpha)
        corrected: Tensor = average / (1 - alpha ** state["step"])
        return corrected

    def _keeper(self) -> Tensor:
        """Return the parameter whose state holds the shared average."""
        keeper: Tensor = self.param_groups[0]["params"][0]
        return keeper


def _with_gradients(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parameters that have a gradient, and their gradients with the weight decay added."""
    parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
    gradients = [parameter.grad for parameter in parameters]
    if any(gradient.layout != torch.strided for gradient in gradients):
        raise RuntimeError("GroupRMSprop requires dense gradients, got a sparse one; use gradient.to_dense()")
    if group["weight_decay"] and parameters:
        gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
    return parameters, gradients


def _sum_of_squares(gradients: list[Tensor], device: torch.device) -> Tensor:
    """Return the sum of squares of all gradients, a float64 scalar; for `DTensor`s over all shards."""
    if any(is_sharded(gradient) for gradient in gradients):
        return norms(gradients).square().sum().to(device)
    # In 16 bits, the norm would overflow or lose most of its digits.
    wide = [local_part(gradient) for gradient in gradients]
    wide = [gradient if gradient.element_size() >= 4 else gradient.float() for gradient in wide]
    of_each = torch._foreach_norm(wide)
    return torch.stack([one.to(device, torch.float64).square() for one in of_each]).sum()
