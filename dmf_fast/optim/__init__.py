"""Optimisers beside those of torch."""

from dmf_fast.optim.adaptive_gradient_descent import AdaptiveGradientDescent
from dmf_fast.optim.group_rmsprop import GroupRMSprop

__all__ = ["AdaptiveGradientDescent", "GroupRMSprop"]
