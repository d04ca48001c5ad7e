"""How `descend` updates the factors from their gradients: small, immutable descriptions.

Each does what the torch optimiser of the same name does (`torch.optim.SGD`, `dmf_fast.optim.GroupRMSprop`,
`torch.optim.Adam`) with one group of parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from dmf_fast import _native
from dmf_fast.checks import real_number

# Not 0 in float32 either, where 0 / 0 would be the step of a gradient that is zero.
_LEAST_EPS = 1e-30


@dataclass(frozen=True)
class GradientDescent:
    """Gradient descent, with or without momentum: ``v ← momentum · v + g``, ``W ← W − lr · v``.

    Attributes:
        lr: learning rate, at least 0.
        momentum: from 0 to below 1.
        weight_decay: L2 penalty: ``weight_decay · W`` joins the gradient; at least 0.

    Raises:
        ValueError: an option is out of range.
        TypeError: an option is not a number.

    Example:
        >>> GradientDescent(lr=0.1, momentum=0.9)
        GradientDescent(lr=0.1, momentum=0.9, weight_decay=0.0)

    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check(self, ("lr", "weight_decay"), ("momentum",))

    def native(self) -> _native.Rule:
        """Return the rule as the kernels take it."""
        return _native.Rule(
            _native.RuleKind.gradient_descent,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )


@dataclass(frozen=True)
class GroupRMSprop:
    """Gradient descent whose step is scaled by the size of *all* gradients together.

    ``s ← alpha · s + (1 − alpha) · Σ‖g‖²``, ``W ← W − lr / (sqrt(s / (1 − alpha^t)) + eps) · g``: see
    `dmf_fast.optim.GroupRMSprop`.

    Attributes:
        lr: learning rate, at least 0.
        alpha: decay of the average, from 0 to below 1.
        eps: added to the root, at least 1e-30, so that a gradient of zero moves nothing.
        weight_decay: L2 penalty: ``weight_decay · W`` joins the gradient; at least 0.

    Raises:
        ValueError: an option is out of range.
        TypeError: an option is not a number.

    Example:
        >>> GroupRMSprop(lr=1e-3).alpha
        0.99

    """

    lr: float
    alpha: float = 0.99
    eps: float = 1e-6
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check(self, ("lr", "eps", "weight_decay"), ("alpha",))
        _check_eps(self.eps)

    def native(self) -> _native.Rule:
        """Return the rule as the kernels take it."""
        return _native.Rule(
            _native.RuleKind.group_rmsprop,
            lr=self.lr,
            alpha=self.alpha,
            eps=self.eps,
            weight_decay=self.weight_decay,
        )


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba, "Adam: A Method for Stochastic Optimization", 2015), bias-corrected.

    Attributes:
        lr: learning rate, at least 0.
        beta1: decay of the average gradient, from 0 to below 1.
        beta2: decay of the average squared gradient, from 0 to below 1.
        eps: added to the root, at least 1e-30, so that a gradient of zero moves nothing.
        weight_decay: L2 penalty: ``weight_decay · W`` joins the gradient; at least 0.

    Raises:
        ValueError: an option is out of range.
        TypeError: an option is not a number.

    Example:
        >>> Adam(lr=1e-3).beta2
        0.999

    """

    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check(self, ("lr", "eps", "weight_decay"), ("beta1", "beta2"))
        _check_eps(self.eps)

    def native(self) -> _native.Rule:
        """Return the rule as the kernels take it."""
        return _native.Rule(
            _native.RuleKind.adam,
            lr=self.lr,
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.eps,
            weight_decay=self.weight_decay,
        )


Rule = GradientDescent | GroupRMSprop | Adam


def describe_rule(rule: Rule) -> dict[str, str | float]:
    """Return the name and the options of a rule, for tables and checkpoints.

    >>> describe_rule(GradientDescent(lr=0.5))
    {'rule': 'GradientDescent', 'lr': 0.5, 'momentum': 0.0, 'weight_decay': 0.0}
    """
    options = {field.name: float(getattr(rule, field.name)) for field in fields(rule)}
    return {"rule": type(rule).__name__, **options}


def _check_eps(eps: float) -> None:
    if eps < _LEAST_EPS:
        raise ValueError(f"eps must be at least {_LEAST_EPS}, but {eps} came.")


def _check(rule: object, numbers: tuple[str, ...], decays: tuple[str, ...]) -> None:
    for name in numbers:
        object.__setattr__(rule, name, real_number(name, getattr(rule, name), least=0))
    for name in decays:
        object.__setattr__(rule, name, real_number(name, getattr(rule, name), least=0, below=1))
