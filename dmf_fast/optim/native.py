"""Which optimizers native engines support, and conversion of their options and state."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dmf_fast import _native
from dmf_fast._native import RuleKind
from dmf_fast.optim.adaptive_gradient_descent import AdaptiveGradientDescent
from dmf_fast.optim.group_rmsprop import GroupRMSprop
from dmf_fast.optim.preconditioned_lbfgs import PreconditionedLBFGS, group_curvatures
from dmf_fast.optim.spec import OptimizerSpec

# Nonzero in float32 as well; with 0 a zero gradient would give a step of 0 / 0.
_LEAST_EPS = 1e-30
_CACHE_LINE = 64  # bytes
# Options of torch optimizers that do not change the step, or are handled separately.
_NOT_OF_THE_STEP = {
    "params", "foreach", "fused", "initial_lr", "weight_decay", "maximize_grads", "curvature",
}  # fmt: skip


class NotNative(Exception):
    """No native engine supports the requested steps; the message is a clause that gives the reason."""


@dataclass(frozen=True)
class _Kind:
    """An update rule of the kernels.

    Attributes:
        kind: its name in the kernels.
        options: returns the keyword arguments of `_native.Rule` for the options of a group.
        plain: options that must have these values, the only ones that the kernels support.
        moments: names of the tensors in the state of a parameter, in the order of the kernels.

    """

    kind: RuleKind
    options: Callable[[Mapping[str, Any]], dict[str, float]]
    plain: Mapping[str, Any]
    moments: tuple[str, ...]


_TORCH_FLAGS = {"maximize": False, "differentiable": False}
_KINDS: dict[Any, _Kind] = {
    torch.optim.SGD: _Kind(
        RuleKind.gradient_descent,
        lambda group: {"momentum": group["momentum"]},
        {**_TORCH_FLAGS, "nesterov": False, "dampening": 0},
        ("momentum_buffer",),
    ),
    torch.optim.Adam: _Kind(
        RuleKind.adam,
        lambda group: {"beta1": group["betas"][0], "beta2": group["betas"][1], "eps": group["eps"]},
        {**_TORCH_FLAGS, "amsgrad": False, "capturable": False, "decoupled_weight_decay": False},
        ("exp_avg", "exp_avg_sq"),
    ),
    GroupRMSprop: _Kind(
        RuleKind.group_rmsprop, lambda group: {"alpha": group["alpha"], "eps": group["eps"]}, {}, ()
    ),
    AdaptiveGradientDescent: _Kind(RuleKind.adaptive_gradient_descent, lambda group: {}, {}, ("gradient",)),
    PreconditionedLBFGS: _Kind(
        RuleKind.preconditioned_lbfgs,
        lambda group: {name: group[name] for name in ("decay_rate", "decay_after", "concavity", "knee")},
        {},
        ("move", "gradient"),
    ),
}


@dataclass(frozen=True)
class NativeOptimizer:
    """An optimizer in the form of the kernels.

    Attributes:
        kind: of the rule.
        rule: the kind with its hyperparameters.
        moments: names of the tensors in the state of a parameter in torch.
        curvatures: for L-BFGS, one for each parameter: factors, then biases.

    """

    kind: RuleKind
    rule: _native.Rule
    moments: tuple[str, ...]
    curvatures: list[Tensor | None]


@dataclass
class OptimizerState:
    """The state of an optimizer in the form of the kernels.

    Attributes:
        steps: number of steps made, for bias corrections.
        moments: for each moment, tensors like the parameters: factors, then biases.
        scalars: the average of GroupRMSprop; size, growth and length of the adaptive step; a 1 and the sizes
            of columns for L-BFGS; otherwise empty.

    """

    steps: int
    moments: list[list[Tensor]]
    scalars: list[float]


def native_optimizer(
    optimizer: torch.optim.Optimizer | OptimizerSpec,
    factors: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    gradient_clip: float = 0.0,
) -> NativeOptimizer:
    """Return ``optimizer`` of these parameters in the form of the kernels.

    Raises:
        NotNative: no kernel computes the same steps.
        ValueError: an option is out of range.
        TypeError: the optimizer does not accept an option, or an option is not a number.

    """
    if isinstance(optimizer, OptimizerSpec):
        maker: Any = optimizer.optimizer
        options = _spec_options(optimizer)
        bias_options = options | dict(optimizer.bias_options)
    else:
        maker = type(optimizer)
        options, bias_options = _group_options(optimizer, factors, biases)
    kind = _KINDS.get(maker)
    if kind is None:
        raise NotNative(f"{getattr(maker, '__name__', maker)} has no native step")
    shared, bias_shared = _of_the_step(options), _of_the_step(bias_options)
    if shared != bias_shared:
        name = next(name for name in shared if shared[name] != bias_shared.get(name))
        raise NotNative(f"{name} differs between the factors and the biases")
    if kind.kind == RuleKind.preconditioned_lbfgs and (len(factors) != 2 or gradient_clip):
        raise NotNative("L-BFGS has a native step for two factors, without clipped gradients")
    for name, value in kind.plain.items():
        if options.get(name, value) != value:
            raise NotNative(f"{maker.__name__} with {name}={options[name]} has no native step")
    numbers = {
        "lr": options["lr"],
        **kind.options(options),
        "weight_decay": options["weight_decay"],
        "bias_weight_decay": bias_options["weight_decay"],
    }
    _check(numbers)
    rule = _native.Rule(kind.kind, **{n: float(v) for n, v in numbers.items()}, gradient_clip=gradient_clip)
    curvatures = _curvatures(optimizer, factors, biases)
    return NativeOptimizer(kind.kind, rule, kind.moments[: rule.moments], curvatures)


def optimizer_options(optimizer: torch.optim.Optimizer | OptimizerSpec) -> dict[str, Any]:
    """Return the options of the factors."""
    if isinstance(optimizer, OptimizerSpec):
        return _spec_options(optimizer)
    return dict(optimizer.param_groups[0])


def read_state(
    optimizer: torch.optim.Optimizer, native: NativeOptimizer, parameters: Sequence[Tensor]
) -> OptimizerState | None:
    """Return the state of ``optimizer``; None if it has not made a step.

    Raises `NotNative` if only some of the parameters have a state.
    """
    states = [optimizer.state.get(parameter, {}) for parameter in parameters]
    if not any(states):
        return None
    if native.kind == RuleKind.group_rmsprop:
        (state,) = (state for state in states if state)
        return OptimizerState(state["step"], [], [float(state["square_average"])])
    if any(name not in state for name in native.moments for state in states):
        raise NotNative("the optimizer has made steps with only some of the parameters")
    moments = [[state[name] for state in states] for name in native.moments]
    if native.kind == RuleKind.preconditioned_lbfgs:
        sizes, steps = (next(s[name] for s in states if name in s) for name in ("sizes", "step"))
        unused = _columns(parameters[0]) - len(sizes)
        return OptimizerState(steps, moments, [1.0, *sizes, *[0.0] * unused])
    if native.kind == RuleKind.adaptive_gradient_descent:
        shared = next(state for state in states if "size" in state)
        return OptimizerState(0, moments, [shared["size"], shared["growth"], shared["length"]])
    return OptimizerState(int(states[0].get("step", 0)), moments, [])


def write_state(
    optimizer: torch.optim.Optimizer,
    native: NativeOptimizer,
    parameters: Sequence[Tensor],
    state: OptimizerState,
) -> None:
    """Set the state of ``optimizer`` to what it would be had it made the steps itself."""
    keeper = optimizer.param_groups[0]["params"][0]
    if native.kind == RuleKind.group_rmsprop:
        average = torch.tensor(state.scalars[0], dtype=torch.float64, device=keeper.device)
        optimizer.state[keeper] = {"step": state.steps, "square_average": average}
        return
    for place, parameter in enumerate(parameters):
        kept = {name: moments[place] for name, moments in zip(native.moments, state.moments, strict=True)}
        if native.kind == RuleKind.adam:
            kept["step"] = torch.tensor(float(state.steps), dtype=torch.float32, device="cpu")
        if kept:
            optimizer.state[parameter] = kept
    if native.kind == RuleKind.preconditioned_lbfgs:
        sizes = state.scalars[1 : 1 + len(parameters[0])]
        optimizer.state[keeper]["step"] = state.steps
        optimizer.state[_group_of(optimizer, parameters[0])["params"][0]]["sizes"] = sizes
    if native.kind == RuleKind.adaptive_gradient_descent:
        names = ("size", "growth", "length")
        optimizer.state[keeper].update(zip(names, state.scalars, strict=True))


def _columns(first_factor: Tensor) -> int:
    """Return the number of column sizes that the kernels keep for L-BFGS, padded to whole cache lines."""
    line = _CACHE_LINE // first_factor.element_size()
    return -(-len(first_factor) // line) * line


def _group_of(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Any]:
    return next(g for g in optimizer.param_groups if any(own is parameter for own in g["params"]))


def _curvatures(
    optimizer: torch.optim.Optimizer | OptimizerSpec, factors: Sequence[Tensor], biases: Sequence[Tensor]
) -> list[Tensor | None]:
    """Return the curvature of each parameter, factors first."""
    if isinstance(optimizer, torch.optim.Optimizer):
        found: dict[int, Tensor | None] = {}
        for group in optimizer.param_groups:
            given = group_curvatures(group, len(group["params"]))
            found |= {id(p): own for p, own in zip(group["params"], given, strict=True)}
        return [found[id(parameter)] for parameter in (*factors, *biases)]
    # The groups that `OptimizerSpec.make` makes.
    groups = [[*factors, *biases]] if not optimizer.bias_options else [factors, biases]
    options = [optimizer.all_options(), optimizer.bias_options][: len(groups)]
    curvatures: list[Tensor | None] = []
    for parameters, own in zip(groups, options, strict=True):
        curvatures += group_curvatures(own, len(parameters))
    return curvatures


def _spec_options(spec: OptimizerSpec) -> dict[str, Any]:
    given = {**spec.options, **spec.bias_options}
    try:
        inspect.signature(spec.optimizer).bind([], **given)
    except TypeError as error:
        raise TypeError(f"{spec.name} does not accept the options {given}: {error}") from None
    except ValueError:
        pass  # no signature to check against
    return spec.all_options()


def _group_options(
    optimizer: torch.optim.Optimizer, factors: Sequence[Tensor], biases: Sequence[Tensor]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of the groups that hold the factors and the biases."""
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    if len(groups) != len(factors) + len(biases) or any(id(p) not in groups for p in (*factors, *biases)):
        raise NotNative("the optimizer does not hold exactly the parameters of the model")
    found = []
    for parameters in (factors, biases or factors):
        first = groups[id(parameters[0])]
        if any(_options(groups[id(parameter)]) != _options(first) for parameter in parameters):
            raise NotNative("options differ between factors, or between biases")
        found.append(dict(first))
    return found[0], found[1]


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name not in ("params", "curvature")}


def _of_the_step(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in _NOT_OF_THE_STEP}


def _check(numbers: Mapping[str, Any]) -> None:
    for name, value in numbers.items():
        if isinstance(value, Tensor):
            raise NotNative(f"{name} is a tensor")
        if not isinstance(value, (int, float)):
            raise TypeError(f"`{name}` must be a number, got {value!r}")
        below = 1.0 if name in ("momentum", "alpha", "beta1", "beta2", "concavity") else math.inf
        if not 0 <= value < below:
            limit = "below 1" if below == 1.0 else "finite"
            raise ValueError(f"`{name}` must be at least 0 and {limit}, got {value}")
    if numbers.get("eps", 1.0) < _LEAST_EPS:
        raise NotNative(f"eps is below {_LEAST_EPS}")
