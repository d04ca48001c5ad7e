"""Whether a run has left the neighborhood of zero in which it started."""

from __future__ import annotations

import math

import torch

from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.training.errors import mean_squared_error, mean_squared_error_without_factors

# Least relative change of the train loss by the product of the factors.
_LEAST_CONTRIBUTION = 1e-3


@torch.no_grad()
def has_left_start(model: DeepMatrixFactorization, train: Observations) -> bool:
    """Return whether the product of the factors changes the train loss by more than 0.1%.

    From depth 2 on, zero is a critical point of the loss, and a run that starts near it can rest there. The
    result is True if the loss is not finite.

    >>> train = Observations([0, 1], [0, 1], [1.0, 1.0])
    >>> [has_left_start(DeepMatrixFactorization((2, 2), 2, init_scale=s, seed=0), train) for s in (1e-9, 1.0)]
    [False, True]
    """
    loss = mean_squared_error(model, train)
    without = mean_squared_error_without_factors(model, train)
    if not (math.isfinite(loss) and math.isfinite(without)):
        return True
    return abs(without - loss) > _LEAST_CONTRIBUTION * without
