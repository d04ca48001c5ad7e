"""Whether a run has left the neighborhood of zero in which it began."""

from __future__ import annotations

import math

import torch

from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.training.errors import mean_squared_error, mean_squared_error_without_factors

# Of the train loss: what a product of factors contributes that has left its start.
_LEAST_CONTRIBUTION = 1e-3


@torch.no_grad()
def has_left_start(model: DeepMatrixFactorization, train: Observations) -> bool:
    """Say whether the product of the factors changes the train loss by at least a thousandth.

    Zero is a critical point of the loss from depth 2 on, and a run that begins near it can rest there. True
    where the loss is not finite.

    >>> train = Observations([0, 1], [0, 1], [1.0, 1.0])
    >>> [has_left_start(DeepMatrixFactorization((2, 2), 2, init_scale=s, seed=0), train) for s in (1e-9, 1.0)]
    [False, True]
    """
    loss = mean_squared_error(model, train)
    without = mean_squared_error_without_factors(model, train)
    if not (math.isfinite(loss) and math.isfinite(without)):
        return True
    return abs(without - loss) > _LEAST_CONTRIBUTION * without
