"""Singular value thresholding of the sum of a relaxed and a sparse matrix.

Both classes hold the relaxed matrix of the splitting, which moves towards the thresholded one and past it.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from dmf_fast.convex.low_rank import LowRank
from dmf_fast.convex.observed import ObservedEntries

# Columns of a block beyond the rank, which detect singular values that rise above the threshold. At high
# ranks, a block with few of them lags behind and delays the splitting: measured on MovieLens 100K.
_LEAST_SPARE = 8
_SPARE_SHARE = 0.25
_SWEEPS = 2
# Below this fraction of the largest singular value, the root of an eigenvalue loses half of its digits.
_LEAST_OF_SQUARES = 1e-4


class Thresholding(Protocol):
    """Singular value thresholding, and a relaxed matrix that follows it."""

    observed: ObservedEntries

    def __call__(self, sparse: Tensor, threshold: float, relaxation: float) -> LowRank:
        """Return the relaxed matrix plus a sparse one, with singular values reduced by ``threshold``.

        Then move the relaxed matrix by ``relaxation`` times the difference to the returned one.
        """

    def relaxed_entries(self) -> Tensor:
        """Return the relaxed matrix on Ω."""

    def operator_norm(self, sparse: Tensor, precision: float) -> float:
        """Return the largest singular value of a sparse matrix, as `ObservedEntries.operator_norm`."""


class DenseThresholding:
    """Forms the matrix and decomposes it exactly; for small matrices."""

    def __init__(self, observed: ObservedEntries, start: LowRank) -> None:
        self.observed = observed
        self._relaxed = start.dense()

    def __call__(self, sparse: Tensor, threshold: float, relaxation: float) -> LowRank:
        """Return the sum with reduced singular values; see `Thresholding`."""
        matrix = self._relaxed + self.observed.dense(sparse)
        if matrix.shape[0] > matrix.shape[1]:
            flipped = _thresholded(matrix.T, threshold)
            thresholded = LowRank(flipped.right, flipped.singular_values, flipped.left)
        else:
            thresholded = _thresholded(matrix, threshold)
        self._relaxed.lerp_(thresholded.dense(), relaxation)
        return thresholded

    def relaxed_entries(self) -> Tensor:
        """Return the relaxed matrix on Ω."""
        return self.observed.entries_of_dense(self._relaxed)

    def operator_norm(self, sparse: Tensor, precision: float) -> float:
        """Return the largest singular value of a sparse matrix, to rounding."""
        matrix = self.observed.dense(sparse)
        gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        return float(torch.linalg.eigvalsh(gram)[-1].clamp_min(0).sqrt())


def _thresholded(matrix: Tensor, threshold: float) -> LowRank:
    # The Gram matrix takes a third of the time of an SVD.
    squares, left = torch.linalg.eigh(matrix @ matrix.T)
    if threshold < _LEAST_OF_SQUARES * float(squares[-1].clamp_min(0).sqrt()):
        return thresholded_by_svd(matrix, threshold)
    first = int(torch.searchsorted(squares, threshold * threshold, right=True))
    values, left = squares[first:].sqrt().flip(0), left[:, first:].flip(1)
    return LowRank(left, values - threshold, (matrix.T @ left) / values)


def thresholded_by_svd(matrix: Tensor, threshold: float) -> LowRank:
    """Return a matrix with singular values reduced by ``threshold``, keeping the positive ones."""
    left, values, right_transposed = torch.linalg.svd(matrix, full_matrices=False)
    kept = int((values > threshold).sum())
    return LowRank(left[:, :kept], values[:kept] - threshold, right_transposed[:kept].T)


class TruncatedThresholding:
    """Finds the singular triplets above the threshold by subspace iteration from the previous ones.

    Halko, Martinsson & Tropp, "Finding Structure with Randomness" (SIAM Review 2011), algorithm 4.4. Memory:
    ``(m + n)`` times the rank, plus the observed entries.
    """

    def __init__(self, observed: ObservedEntries, start: LowRank) -> None:
        self.observed = observed
        self._rank = start.rank
        self._generator = torch.Generator(observed.device).manual_seed(0)
        # The relaxed matrix is left · rightᵀ; the orthonormal columns of right start the iteration.
        self._left, self._right = start.left * start.singular_values, start.right

    def __call__(self, sparse: Tensor, threshold: float, relaxation: float) -> LowRank:
        """Return the sum with reduced singular values; see `Thresholding`."""
        width = self._rank + _LEAST_SPARE + int(_SPARE_SHARE * self._rank)
        block = self._right
        while True:
            width = min(width, *self.observed.shape)
            left, values, block = self._leading(sparse, self._widened(block, width))
            kept = int((values > threshold).sum())
            if kept + _LEAST_SPARE // 2 <= width or width == min(self.observed.shape):
                break
            width += max(width // 2, _LEAST_SPARE)
        thresholded = LowRank(left[:, :kept], values[:kept] - threshold, block[:, :kept])
        self._relax(thresholded, block, relaxation)
        return thresholded

    def relaxed_entries(self) -> Tensor:
        """Return the relaxed matrix on Ω."""
        return self.observed.entries_of(self._left, self._right)

    def operator_norm(self, sparse: Tensor, precision: float) -> float:
        """Return the largest singular value of a sparse matrix, as `ObservedEntries.operator_norm`."""
        return self.observed.operator_norm(sparse, precision)

    def _relax(self, thresholded: LowRank, block: Tensor, relaxation: float) -> None:
        # What the block does not span is dropped, not relaxed, or the rank would grow.
        moved = self._left @ (self._right.T @ block) * (1 - relaxation)
        moved[:, : thresholded.rank] += relaxation * thresholded.left * thresholded.singular_values
        self._rank, self._left, self._right = thresholded.rank, moved, block

    def _leading(self, sparse: Tensor, block: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return as many of the largest singular triplets of the sum as the block has columns."""
        for _ in range(_SWEEPS):
            left, _ = torch.linalg.qr(
                self.observed.times(sparse, block) + self._left @ (self._right.T @ block)
            )
            block, rest = torch.linalg.qr(
                self.observed.transposed_times(sparse, left) + self._right @ (self._left.T @ left)
            )
        inner_left, values, inner_right = torch.linalg.svd(rest.T)
        return left @ inner_left, values, block @ inner_right.T

    def _widened(self, block: Tensor, width: int) -> Tensor:
        block = block[:, :width]
        fresh = torch.randn(
            block.shape[0],
            width - block.shape[1],
            generator=self._generator,
            dtype=block.dtype,
            device=block.device,
        )
        return torch.cat([block, fresh], 1)
