"""Rows and columns of a model as vectors that can be replaced and added to."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from dmf_fast.chain import chain_product
from dmf_fast.nn import DeepMatrixFactorization


@dataclass(frozen=True, eq=False)
class Lines:
    """Rows (axis 0) or columns (axis 1) of a model: ``vectors[i] · features[j] + offsets[j]`` predicts.

    A row's vector is its row of the last factor, whose features are the product of the other factors; its
    bias is one more number, whose feature is 1. Columns have the first factor.

    Attributes:
        vectors: ``(lines, p)``, float64.
        features: ``(others, p)``, float64.
        offsets: ``(others,)``, float64: the mean and the bias of the other side.

    """

    vectors: Tensor
    features: Tensor
    offsets: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: DeepMatrixFactorization, axis: int) -> Lines:
        """Return the rows or columns of ``model``, as copies.

        >>> model = DeepMatrixFactorization((4, 3), depth=3, hidden=2, bias=True, seed=0)
        >>> lines = Lines.of(model, axis=1)
        >>> lines.vectors.shape, lines.features.shape
        (torch.Size([3, 3]), torch.Size([4, 3]))
        """
        factors = [factor.detach().double() for factor in model.factors]
        if axis == 0:
            vectors, others = factors[-1], factors[:-1]
            features = chain_product(others).T if others else torch.eye(model.shape[1]).double()
        else:
            vectors, others = factors[0].T, factors[1:]
            features = chain_product(others) if others else torch.eye(model.shape[0]).double()
        mean = model.mean.double()
        if model.row_bias is None or model.column_bias is None:
            return cls(vectors, features, mean.expand(len(features)))
        own, other = (model.row_bias, model.column_bias)[:: 1 if axis == 0 else -1]
        ones = torch.ones(len(features), 1, dtype=torch.float64)
        return cls(
            torch.cat([vectors, own.detach().double()[:, None]], 1),
            torch.cat([features, ones], 1),
            mean + other.detach().double(),
        )


def with_vectors(model: DeepMatrixFactorization, axis: int, vectors: Tensor) -> DeepMatrixFactorization:
    """Return a copy of ``model`` that has other rows or columns, as many as there are vectors.

    >>> model = DeepMatrixFactorization((4, 3), depth=2, bias=True, seed=0)
    >>> vectors = Lines.of(model, axis=0).vectors
    >>> with_vectors(model, 0, torch.cat([vectors, vectors])).shape
    (8, 3)
    """
    result = copy.deepcopy(model)
    numbers = vectors.to(model.mean.dtype)
    if model.row_bias is not None:
        bias = Parameter(numbers[:, -1].clone())
        numbers = numbers[:, :-1]
        if axis == 0:
            result.row_bias = bias
        else:
            result.column_bias = bias
    if axis == 0:
        result.factors[-1] = Parameter(numbers.contiguous())
    else:
        result.factors[0] = Parameter(numbers.T.contiguous())
    return result
