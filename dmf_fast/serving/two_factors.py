"""A trained chain as two factors: all that predictions need, regardless of the depth of the model."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from dmf_fast.chain import chain_product, narrowest_split
from dmf_fast.checks import whole_number
from dmf_fast.nn import DeepMatrixFactorization

_MOST_COLUMNS = 2**31 - 1


@dataclass(frozen=True, eq=False)
class TwoFactors:
    """An ``(m, n)`` matrix of predictions ``mean + row_bias_i + column_bias_j + a_i · b_j``.

    Attributes:
        a: ``(m, h)``, float32 or float64, contiguous.
        b: ``(h, n)``, of the same dtype, contiguous.
        row_bias: ``(m,)``, of the same dtype, or None.
        column_bias: ``(n,)``, of the same dtype, or None.
        mean: constant added to every prediction.

    Raises:
        TypeError: a dtype is not float32 or float64, or dtypes disagree.
        ValueError: the shapes do not match, a number is not finite, devices disagree, or there are 2³¹
            columns or more.

    Example:
        >>> TwoFactors(torch.ones(4, 2), torch.ones(2, 3), mean=1.5).shape
        (4, 3)

    """

    a: Tensor
    b: Tensor
    row_bias: Tensor | None = None
    column_bias: Tensor | None = None
    mean: float = 0.0

    def __post_init__(self) -> None:
        rows, columns = _checked_shape(self.a, self.b)
        expected = {"a": self.a.shape, "b": self.b.shape, "row_bias": (rows,), "column_bias": (columns,)}
        for name, shape in expected.items():
            given: Tensor | None = getattr(self, name)
            if given is not None:
                _check(name, given, tuple(shape), self.a.dtype, self.a.device)
                object.__setattr__(self, name, given.detach().contiguous())
        if not math.isfinite(self.mean):
            raise ValueError(f"`mean` must be finite, got {self.mean}")

    @property
    def shape(self) -> tuple[int, int]:
        """``(m, n)``, rows and columns of the matrix."""
        return (self.a.shape[0], self.b.shape[1])

    @property
    def width(self) -> int:
        """``h``, the number of factors of a row or a column."""
        return self.a.shape[1]

    def to(self, device: torch.device | str) -> TwoFactors:
        """Return the same factors on ``device``; ``self`` if they are already there.

        >>> TwoFactors(torch.ones(4, 2), torch.ones(2, 3)).to("cpu").shape
        (4, 3)
        """
        if torch.device(device) == self.a.device:
            return self
        row_bias, column_bias = (
            None if bias is None else bias.to(device) for bias in (self.row_bias, self.column_bias)
        )
        return TwoFactors(self.a.to(device), self.b.to(device), row_bias, column_bias, self.mean)

    @cached_property
    def balanced(self) -> TwoFactors:
        """The same predictions, with the singular values shared evenly between both factors.

        ``a = U √S`` and ``b = √S Vᵀ`` for the singular value decomposition ``a b = U S Vᵀ``; the
        ``min(h, m, n)`` factors are sorted by singular value, descending. Computed on first use.
        """
        a, b = _balance(self.a.double(), self.b.double(), None)
        return replace(self, a=a.to(self.a.dtype), b=b.to(self.b.dtype))


@torch.no_grad()
def collapse(model: DeepMatrixFactorization, rank: int | None = None) -> TwoFactors:
    """Return a model as two factors: the chain, multiplied in float64 on both sides of its narrowest width.

    With ``rank``, the result is the closest pair of that width in the Frobenius norm, which is the truncated
    singular value decomposition; Eckart & Young, "The Approximation of One Matrix by Another of Lower Rank"
    (1936). It is computed from QR decompositions of the two factors and is balanced. The ``m × n`` matrix is
    never formed. (A model of depth 1 is a single ``m × n`` factor; the other factor is then the identity.)

    Args:
        model: of any depth, dtype and device; it is not modified.
        rank: from 1 to ``min(m, n)``; None for the exact product.

    Returns:
        Factors on the CPU; float64 for a model in float64, and float32 for all others.

    Raises:
        TypeError: ``rank`` is not an integer.
        ValueError: ``rank`` is out of range, or the product is not finite, as after a run that diverged.

    Example:
        >>> collapse(DeepMatrixFactorization((6, 5), depth=3, hidden=4, seed=0), rank=2).width
        2

    """
    if rank is not None:
        rank = whole_number("rank", rank, least=1, most=min(model.shape))
    a, b = _outer_and_inner([factor.detach().cpu().double() for factor in model.factors])
    if rank is not None:
        a, b = _balance(a, b, rank)
    dtype = torch.float64 if model.mean.dtype == torch.float64 else torch.float32

    def copied(tensor: Tensor) -> Tensor:
        return tensor.to("cpu", dtype, copy=True)

    return TwoFactors(
        copied(a),
        copied(b),
        None if model.row_bias is None else copied(model.row_bias),
        None if model.column_bias is None else copied(model.column_bias),
        model.mean.item(),
    )


def _outer_and_inner(factors: list[Tensor]) -> tuple[Tensor, Tensor]:
    split = narrowest_split([factors[0].shape[1], *(factor.shape[0] for factor in factors)])
    if split is not None:
        return chain_product(factors[split:]), chain_product(factors[:split])
    whole = factors[0]
    rows, columns = whole.shape
    if rows < columns:
        return torch.eye(rows, dtype=whole.dtype, device=whole.device), whole
    return whole, torch.eye(columns, dtype=whole.dtype, device=whole.device)


def _balance(a: Tensor, b: Tensor, rank: int | None) -> tuple[Tensor, Tensor]:
    """Return the ``rank`` leading singular vectors, scaled by the roots of their values, in float64."""
    for factor in (a, b):
        if not factor.isfinite().all():
            raise ValueError("`model` must have a finite product, got infinity or NaN")
    outer, inner = torch.linalg.qr(a), torch.linalg.qr(b.T)
    left, values, right = torch.linalg.svd(outer.R @ inner.R.T, full_matrices=False)
    roots = values[:rank].sqrt()
    return outer.Q @ (left[:, :rank] * roots), (roots[:, None] * right[:rank]) @ inner.Q.T


def _checked_shape(a: Tensor, b: Tensor) -> tuple[int, int]:
    if a.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"`a` must have dtype float32 or float64, got {a.dtype}")
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[0] or 0 in (*a.shape, *b.shape):
        raise ValueError(
            "`a` must have shape (m, h) and `b` (h, n), all at least 1, got shapes "
            f"{tuple(a.shape)} and {tuple(b.shape)}"
        )
    if b.shape[1] > _MOST_COLUMNS:
        raise ValueError(f"`b` must have at most {_MOST_COLUMNS} columns, got {b.shape[1]}")
    return a.shape[0], b.shape[1]


def _check(
    name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> None:
    if tensor.dtype != dtype:
        raise TypeError(f"`{name}` must have the dtype of `a`, {dtype}, got {tensor.dtype}")
    if tensor.shape != shape:
        raise ValueError(f"`{name}` must have shape {shape}, got {tuple(tensor.shape)}")
    if tensor.device != device:
        raise ValueError(f"`{name}` must be on the device of `a`, {device}, got {tensor.device}")
    if not tensor.isfinite().all():
        raise ValueError(f"`{name}` must be finite, got infinity or NaN: the model diverged")
