"""Temporary: calls the oracle until the kernels land."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dmf_fast import reference
from dmf_fast.observations import Observations


def observed_product(factors: Sequence[Tensor], observations: Observations, *, row_bias: Tensor | None = None, column_bias: Tensor | None = None) -> Tensor:
    return reference.observed_product(factors, observations.rows, observations.columns, row_bias, column_bias)


def completion_loss(factors: Sequence[Tensor], observations: Observations, reduction: str = "mean", *, row_bias: Tensor | None = None, column_bias: Tensor | None = None) -> Tensor:
    return reference.completion_loss(factors, observations.rows, observations.columns, observations.values, observations.weights, reduction, row_bias, column_bias)
