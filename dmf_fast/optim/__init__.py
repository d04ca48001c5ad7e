"""Optimisers beside those of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmf_fast.lazy import import_lazily

if TYPE_CHECKING:
    from dmf_fast.optim.adaptive_gradient_descent import AdaptiveGradientDescent
    from dmf_fast.optim.group_rmsprop import GroupRMSprop

__all__ = ["AdaptiveGradientDescent", "GroupRMSprop"]

import_lazily(__name__)
