"""Converts a model of standardized values to a model of the original values."""

from __future__ import annotations

import copy

import torch

from dmf_fast.checks import real_number
from dmf_fast.nn import DeepMatrixFactorization


@torch.inference_mode(False)
@torch.no_grad()
def rescaled(model: DeepMatrixFactorization, *, mean: float, scale: float) -> DeepMatrixFactorization:
    """Return a copy that predicts ``mean + scale * p`` wherever ``model`` predicts ``p``.

    For a model of ``(values - mean) / scale``: the scale goes into the last factor and the biases, the mean
    into the buffer ``mean``, and nothing else needs to know that the values were standardized.

    Args:
        model: not modified.
        mean: what was subtracted from the values.
        scale: what they were divided by, finite and above 0.

    Raises:
        TypeError: ``scale`` is not a number.
        ValueError: ``scale`` is out of range.

    Example:
        >>> model = DeepMatrixFactorization((4, 3), 2, init_scale=4.0, initialization="identity")
        >>> rescaled(model, mean=3.0, scale=0.5).predict([1, 1], [1, 2])
        tensor([5., 3.])

    """
    scale = real_number("scale", scale, above=0)
    result = copy.deepcopy(model)
    result.factors[-1].mul_(scale)
    for bias in (result.row_bias, result.column_bias):
        if bias is not None:
            bias.mul_(scale)
    result.mean.mul_(scale).add_(mean)
    return result
