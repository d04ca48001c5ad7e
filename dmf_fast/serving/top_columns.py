"""The columns with the highest scores for many rows: by our operator on the CPU, by torch on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from dmf_fast.ops import operators  # noqa: F401 (registers torch.ops.dmf_fast)

_BLOCK_SCORES = 1 << 24


def top_columns(
    a: Tensor,
    b: Tensor,
    column_bias: Tensor | None,
    rows: Tensor,
    seen_offsets: Tensor | None,
    seen_columns: Tensor | None,
    k: int,
) -> tuple[Tensor, Tensor]:
    """Return the ``k`` columns with the highest ``a_i · b_j + column_bias_j`` for each row, and these scores.

    The operator ``torch.ops.dmf_fast.top_columns`` has no CUDA kernel: on other devices than the CPU,
    `top_columns_in_blocks` replaces it. Arguments and result are the same; the result is on the CPU.
    """
    find = torch.ops.dmf_fast.top_columns if a.device.type == "cpu" else top_columns_in_blocks
    columns, scores = find(a, b, column_bias, rows, seen_offsets, seen_columns, k)
    return columns.cpu(), scores.cpu()


def top_columns_in_blocks(
    a: Tensor,
    b: Tensor,
    column_bias: Tensor | None,
    rows: Tensor,
    seen_offsets: Tensor | None,
    seen_columns: Tensor | None,
    k: int,
) -> tuple[Tensor, Tensor]:
    """Return the result of the operator, computed by torch operators on the device of ``a``.

    Blocks of rows are scored against all columns and sorted: at most 2²⁴ scores at a time.

    Args:
        a: ``(m, h)``, float32 or float64.
        b: ``(h, n)``.
        column_bias: ``(n,)`` or None.
        rows: ``(asked,)``, int64, from 0 to m-1.
        seen_offsets: ``(m + 1,)``, int64, or None; see `dmf_fast.serving.SeenColumns`.
        seen_columns: ``(nnz,)``, int32: columns to exclude.
        k: at least 1.

    Returns:
        Columns, int64, and scores, ``(asked, k)`` each, on that device. Ties are broken by the lower column;
        places without a column hold -1 and minus infinity.

    Example:
        >>> a, b = torch.ones(1, 1), torch.tensor([[1.0, 3.0, 2.0]])
        >>> top_columns_in_blocks(a, b, None, torch.tensor([0]), None, None, 2)[0]
        tensor([[1, 2]])

    """
    n, rows = b.shape[1], rows.to(a.device)
    seen = None
    if seen_offsets is not None and seen_columns is not None:
        seen = seen_offsets.to(a.device), seen_columns.to(a.device)
    columns, scores = rows.new_full((len(rows), k), -1), a.new_full((len(rows), k), -torch.inf)
    size = max(1, _BLOCK_SCORES // n)
    for begin in range(0, len(rows), size):
        block = rows[begin : begin + size]
        block_scores = a[block] @ b
        if column_bias is not None:
            block_scores += column_bias
        block_scores.masked_fill_(block_scores.isnan(), -torch.inf)
        if seen is not None:
            places, excluded = seen_entries(block, *seen)
            block_scores[places, excluded.long()] = -torch.inf
        best, order = block_scores.sort(dim=1, descending=True, stable=True)
        best, order = best[:, :k], order[:, :k]
        scores[begin : begin + size, :n] = best
        columns[begin : begin + size, :n] = torch.where(best == -torch.inf, -1, order)
    return columns, scores


def seen_entries(rows: Tensor, offsets: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return the seen columns of ``rows``, concatenated: positions in ``rows``, and columns."""
    counts = offsets[rows + 1] - offsets[rows]
    places = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
    first = counts.cumsum(0) - counts
    entries = torch.arange(len(places), device=rows.device) + (offsets[rows] - first)[places]
    return places, columns[entries]
