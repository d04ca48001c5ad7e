"""The mean squared error of a model on observed entries of any dtype."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.ops.functional import completion_loss
from dmf_fast.sharding import local_part, whole_tensor


@torch.no_grad()
def mean_squared_error(model: DeepMatrixFactorization, observations: Observations) -> float:
    """Return the weighted mean of the squared residuals of ``model``, in the dtype of ``observations``.

    >>> model = DeepMatrixFactorization.of_factors([torch.eye(2)])
    >>> mean_squared_error(model, Observations([0], [1], [3.0], shape=(2, 2)))
    9.0
    """
    if observations.dtype == model.mean.dtype:
        return model.loss(observations).item()
    return _with_factors(model.chain_and_biases()[0], model, observations)


@torch.no_grad()
def mean_squared_error_without_factors(model: DeepMatrixFactorization, observations: Observations) -> float:
    """Return the mean squared error of the mean and the biases alone.

    >>> model = DeepMatrixFactorization.of_factors([torch.eye(2)])
    >>> mean_squared_error_without_factors(model, Observations([0], [0], [3.0], shape=(2, 2)))
    9.0
    """
    rows, columns = len(local_part(model.factors[-1])), model.shape[1]
    return _with_factors(
        [model.mean.new_zeros(1, columns), model.mean.new_zeros(rows, 1)], model, observations
    )


def _with_factors(
    factors: Sequence[Tensor], model: DeepMatrixFactorization, observations: Observations
) -> float:
    """Return the error of ``model`` with other factors, in the dtype of the entries."""
    _, row_bias, column_bias = model.chain_and_biases()
    offset = model.row_offset(row_bias)
    *others, last = factors
    own = [*map(whole_tensor, others), local_part(last)]
    return completion_loss(
        [factor.to(observations.dtype) for factor in own],
        observations,
        row_bias=None if offset is None else offset.to(observations.dtype),
        column_bias=None if column_bias is None else whole_tensor(column_bias).to(observations.dtype),
    ).item()
