"""Low-rank matrices, stored as a truncated singular value decomposition."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LowRank:
    """The matrix ``left · diag(singular_values) · rightᵀ`` of shape ``(m, n)``.

    Attributes:
        left: ``(m, r)``, float64, with orthonormal columns.
        singular_values: ``(r,)``, float64, positive, in descending order.
        right: ``(n, r)``, float64, with orthonormal columns.

    """

    left: Tensor
    singular_values: Tensor
    right: Tensor

    @staticmethod
    def zero(shape: tuple[int, int], device: torch.device) -> LowRank:
        """Return the zero matrix of shape ``(m, n)``."""
        rows, columns = shape
        left = torch.zeros(rows, 0, dtype=torch.float64, device=device)
        return LowRank(left, left.new_zeros(0), left.new_zeros(columns, 0))

    @property
    def rank(self) -> int:
        """The number of singular values."""
        return len(self.singular_values)

    @property
    def nuclear_norm(self) -> float:
        """The sum of the singular values."""
        return float(self.singular_values.sum())

    def dense(self) -> Tensor:
        """Return the matrix, ``(m, n)``, as a new tensor."""
        return (self.left * self.singular_values) @ self.right.T

    def factors(self) -> list[Tensor]:
        """Return balanced factors ``[W_1, W_2]``, ``(r, n)`` and ``(m, r)``: ``W_2ᵀ W_2 = W_1 W_1ᵀ``.

        >>> one = torch.ones(1, 1, dtype=torch.float64)
        >>> LowRank(one, 4 * one[0], one).factors()[0]
        tensor([[2.]], dtype=torch.float64)
        """
        roots = self.singular_values.sqrt()
        return [(self.right * roots).T.contiguous(), (self.left * roots).contiguous()]
