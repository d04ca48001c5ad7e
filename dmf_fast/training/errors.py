"""The mean squared error of a model on observed entries of any dtype."""

from __future__ import annotations

import torch

from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.ops.functional import completion_loss


@torch.no_grad()
def mean_squared_error(model: DeepMatrixFactorization, observations: Observations) -> float:
    """Return the weighted mean of the squared residuals of ``model``, in the dtype of ``observations``.

    >>> model = DeepMatrixFactorization.of_factors([torch.eye(2)])
    >>> mean_squared_error(model, Observations([0], [1], [3.0], shape=(2, 2)))
    9.0
    """
    if observations.dtype == model.mean.dtype:
        return model.loss(observations).item()
    factors, row_bias, column_bias = model.chain_and_biases()
    offset = model.row_offset(row_bias)
    return completion_loss(
        [factor.to(observations.dtype) for factor in factors],
        observations,
        row_bias=None if offset is None else offset.to(observations.dtype),
        column_bias=None if column_bias is None else column_bias.to(observations.dtype),
    ).item()
