"""Update rules: torch optimizers of this project, and what native engines read from an optimizer."""

from dmf_fast.optim.adaptive_gradient_descent import AdaptiveGradientDescent
from dmf_fast.optim.curvature import loss_curvature
from dmf_fast.optim.group_rmsprop import GroupRMSprop
from dmf_fast.optim.preconditioned_lbfgs import PreconditionedLBFGS
from dmf_fast.optim.spec import OptimizerSpec

__all__ = [
    "AdaptiveGradientDescent",
    "GroupRMSprop",
    "OptimizerSpec",
    "PreconditionedLBFGS",
    "loss_curvature",
]
