"""Reference implementations of all operations in plain PyTorch: readable, slow and dense.

They define what each operation means, and tests compare the kernels with them in float64. This module imports
nothing else from dmf_fast.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def chain_product(factors: Sequence[Tensor]) -> Tensor:
    """Return ``W_N @ ... @ W_1`` for ``factors = [W_1, ..., W_N]``, shape ``(m, n)``."""
    product = factors[0]
    for factor in factors[1:]:
        product = factor @ product
    return product


def observed_product(
    factors: Sequence[Tensor],
    rows: Tensor,
    columns: Tensor,
    row_bias: Tensor | None = None,
    column_bias: Tensor | None = None,
) -> Tensor:
    """Return ``(W_N ... W_1)[rows, columns]``, plus the biases if they are given, shape ``(nnz,)``."""
    rows, columns = rows.long(), columns.long()
    product = chain_product(factors)[rows, columns]
    if row_bias is not None:
        product = product + row_bias[rows]
    if column_bias is not None:
        product = product + column_bias[columns]
    return product


def completion_loss(
    factors: Sequence[Tensor],
    rows: Tensor,
    columns: Tensor,
    values: Tensor,
    weights: Tensor | None = None,
    reduction: str = "mean",
    row_bias: Tensor | None = None,
    column_bias: Tensor | None = None,
) -> Tensor:
    """Return the sum over Ω of ``w_ij (W_ij - b_ij)²``; ``"mean"`` divides it by the sum of the weights."""
    residual = observed_product(factors, rows, columns, row_bias, column_bias) - values
    weights = torch.ones_like(values) if weights is None else weights
    loss = (weights * residual**2).sum()
    return loss / weights.sum() if reduction == "mean" else loss


def top_columns(
    a: Tensor, b: Tensor, column_bias: Tensor | None, rows: Tensor, seen: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Return the ``k`` columns with the highest ``a_i · b_j + column_bias_j`` for each row, and their scores.

    ``seen`` is ``(m, n)``, True where a column is excluded. Ties go to the lower column. Both results are
    ``(len(rows), k)``, padded with -1 and minus infinity if fewer than ``k`` columns are left.
    """
    scores = a @ b if column_bias is None else a @ b + column_bias
    scores = torch.where(seen, -torch.inf, scores)[rows]
    best, columns = scores.sort(dim=1, descending=True, stable=True)
    columns = torch.where(best == -torch.inf, -1, columns)
    missing = max(0, k - b.shape[1])
    columns = torch.nn.functional.pad(columns, (0, missing), value=-1)
    best = torch.nn.functional.pad(best, (0, missing), value=-torch.inf)
    return columns[:, :k], best[:, :k]
