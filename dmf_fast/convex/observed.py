"""Sparse matrices on a pattern of observed entries, multiplied by the kernels of this project."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dmf_fast.convex.lanczos import largest_eigenvalue
from dmf_fast.observations import Observations
from dmf_fast.ops import operators  # noqa: F401 (registers torch.ops.dmf_fast)

_native = torch.ops.dmf_fast


class ObservedEntries:
    """A pattern Ω of an ``(m, n)`` matrix; ``sparse`` denotes values on it, ``(nnz,)`` float64."""

    def __init__(self, observations: Observations) -> None:
        self.shape, self.device, self.nnz = observations.shape, observations.device, observations.nnz
        self.values: Tensor = observations.values.double()
        weights = observations.weights
        self.weights: Tensor = torch.ones_like(self.values) if weights is None else weights.double()
        self._layout: Tensor = observations.layout().buffer

    def entries_of(self, left: Tensor, right: Tensor) -> Tensor:
        """Return ``left · rightᵀ`` on Ω, for ``left`` of shape ``(m, r)`` and ``right`` ``(n, r)``."""
        if left.shape[1] == 0:
            return self.values.new_zeros(self.nnz)
        product: Tensor = _native.observed_product_forward(
            left.contiguous(), right.contiguous(), self._layout, self.nnz
        )
        return product

    def entries_of_dense(self, matrix: Tensor) -> Tensor:
        """Return the entries of a contiguous ``(m, n)`` matrix on Ω."""
        entries: Tensor = _native.gather_observed(matrix, self._layout, self.nnz)
        return entries

    def dense(self, sparse: Tensor) -> Tensor:
        """Return the sparse matrix as a dense one, ``(m, n)``."""
        matrix: Tensor = _native.scatter_observed(sparse, self._layout, *self.shape)
        return matrix

    def times(self, sparse: Tensor, block: Tensor) -> Tensor:
        """Return the sparse matrix times ``block`` of shape ``(n, k)``."""
        other = block.new_zeros(self.shape[0], block.shape[1])
        product: Tensor
        product, _ = _native.observed_product_backward(sparse, other, block.contiguous(), self._layout)
        return product

    def transposed_times(self, sparse: Tensor, block: Tensor) -> Tensor:
        """Return the transposed sparse matrix times ``block`` of shape ``(m, k)``."""
        other = block.new_zeros(self.shape[1], block.shape[1])
        product: Tensor
        _, product = _native.observed_product_backward(sparse, block.contiguous(), other, self._layout)
        return product

    def operator_norm(self, sparse: Tensor, precision: float) -> float:
        """Return the largest singular value of the sparse matrix, overestimated by at most ``precision``.

        ``precision`` is relative. The error can be larger if many singular values are close to the largest,
        see `largest_eigenvalue`.
        """
        largest = float(sparse.abs().max())
        if largest == 0:
            return 0.0
        scaled = sparse / largest  # so that squares neither overflow nor underflow

        def square(vector: Tensor) -> Tensor:
            column = vector[:, None]
            if self.shape[0] < self.shape[1]:
                image = self.times(scaled, self.transposed_times(scaled, column))
            else:
                image = self.transposed_times(scaled, self.times(scaled, column))
            return image[:, 0]

        generator = torch.Generator(self.device).manual_seed(0)
        start = torch.randn(min(self.shape), generator=generator, dtype=torch.float64, device=self.device)
        return largest * math.sqrt(largest_eigenvalue(square, start, 2 * precision))
