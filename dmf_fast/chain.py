"""Functions of a chain of factors ``[W_1, …, W_N]`` with a product ``W_N ⋯ W_1`` of shape ``(m, n)``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]


def chain_product(factors: Sequence[Tensor]) -> Tensor:
    """Return the dense product ``W_N ⋯ W_1``, multiplied in the cheapest order; differentiable.

    Args:
        factors: ``[W_1, …, W_N]``, ``W_j`` of shape ``(d_j, d_{j-1})``, all of one dtype and device.

    Returns:
        A new tensor of shape ``(m, n)`` and of the dtype of the factors.

    Raises:
        TypeError, ValueError: as for `dims_of`.

    Example:
        >>> chain_product([torch.ones(4, 3), torch.ones(2, 4)])
        tensor([[4., 4., 4.],
                [4., 4., 4.]])

    """
    dims_of(factors)
    return torch.linalg.multi_dot(list(reversed(factors))) if len(factors) > 1 else factors[0].clone()


@torch.no_grad()
def singular_values(factors: Sequence[Tensor], k: int | None = None) -> Tensor:
    """Return the ``k`` largest singular values of ``W_N ⋯ W_1``, all ``min(m, n)`` by default.

    They are computed exactly, in float64. If a hidden width is below ``min(m, n)``, the two halves of the
    chain around the narrowest one are first reduced by QR, so that the ``m × n`` product is never formed;
    the singular values beyond that width are zero.

    Args:
        factors: ``[W_1, …, W_N]``, ``W_j`` of shape ``(d_j, d_{j-1})``, of any floating dtype.
        k: number of values, from 1 to ``min(m, n)``; None for ``min(m, n)``.

    Returns:
        ``(k,)``, float64, in descending order, without gradients.

    Raises:
        TypeError, ValueError: as for `dims_of`, or ``k`` is out of range.
        torch.linalg.LinAlgError: the product is not finite.

    Example:
        >>> singular_values([torch.eye(2, 3), 2 * torch.eye(4, 2)])
        tensor([2., 2., 0.], dtype=torch.float64)

    """
    dims = dims_of(factors)
    full = min(dims[0], dims[-1])
    if k is not None and not 1 <= k <= full:
        raise ValueError(f"`k` must be from 1 to min(m, n) = {full}, got {k}")
    factors = [factor.double() for factor in factors]
    split = narrowest_split(dims)
    if split is None or dims[split] >= full:
        values = torch.linalg.svdvals(_finite(chain_product(factors)))
    else:
        left = torch.linalg.qr(_finite(chain_product(factors[split:]))).R
        right = torch.linalg.qr(_finite(chain_product(factors[:split])).T).R
        values = torch.linalg.svdvals(_finite(left @ right.T))
    return torch.nn.functional.pad(values, (0, full - len(values)))[:k]


@torch.no_grad()
def relative_distance(factors: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """Return ``‖W − V‖_F / ‖V‖_F`` for the products W and V of two chains.

    If the chains are narrow, neither product is formed.

    Args:
        factors: ``[W_1, …, W_N]``, ``W_j`` of shape ``(d_j, d_{j-1})``.
        others: a chain of any depth and widths, whose product V is nonzero and has the shape of W.

    Raises:
        TypeError, ValueError: as for `dims_of`, or the shapes of the products differ.

    Example:
        >>> relative_distance([3 * torch.eye(2)], [torch.eye(2), 2 * torch.eye(2)])
        0.5

    """
    if shape_of(factors) != shape_of(others):
        raise ValueError(
            f"the product of `others` must have the shape of the product of `factors`, {shape_of(factors)}, "
            f"got {shape_of(others)}"
        )
    (first, last), (other_first, other_last) = _two_factors(factors), _two_factors(others)
    difference = [torch.cat([first, other_first]), torch.cat([last, -other_last], dim=1)]
    distance, size = (torch.linalg.vector_norm(singular_values(one)) for one in (difference, others))
    return float(distance / size)


@torch.no_grad()
def balancedness(factors: Sequence[Tensor]) -> Tensor:
    """Return ``max_j ‖W_{j+1}ᵀ W_{j+1} − W_j W_jᵀ‖_F``: how far the factors are from balanced.

    Gradient flow conserves each of these matrices: Arora, Cohen & Hazan, "On the Optimization of Deep
    Networks: Implicit Acceleration by Overparameterization" (ICML 2018), proof of theorem 1. (For the theorem
    itself, see `dmf_fast.dynamics.end_to_end_velocity`.)

    Args:
        factors: ``[W_1, …, W_N]``, ``W_j`` of shape ``(d_j, d_{j-1})``, of any floating dtype.

    Returns:
        A scalar, float64, without gradients; 0 at depth 1.

    Raises:
        TypeError, ValueError: as for `dims_of`.

    Example:
        >>> balancedness([torch.eye(3), 2 * torch.eye(3)]).square()
        tensor(27., dtype=torch.float64)

    """
    dims_of(factors)
    wide = [factor.double() for factor in factors]
    gaps = [torch.linalg.matrix_norm(outer.T @ outer - inner @ inner.T) for inner, outer in pairwise(wide)]
    return torch.stack(gaps).max() if gaps else wide[0].new_zeros(())


def dims_of(factors: Sequence[Tensor]) -> tuple[int, ...]:
    """Return ``(d_0, …, d_N)``: columns ``n = d_0``, hidden widths, rows ``m = d_N``.

    Args:
        factors: ``[W_1, …, W_N]``, ``W_j`` of shape ``(d_j, d_{j-1})``.

    Raises:
        TypeError: ``factors`` is a single tensor, or an element is not a dense tensor of real numbers.
        ValueError: ``factors`` is empty, an element is not a matrix, the shapes of neighbors do not match, or
            a hidden width is 0.

    Example:
        >>> dims_of([torch.ones(4, 3), torch.ones(2, 4)])
        (3, 4, 2)

    """
    if isinstance(factors, Tensor):
        raise TypeError(
            "`factors` must be a sequence [W_1, …, W_N] of matrices, got one tensor; wrap it in a list"
        )
    if len(factors) == 0:
        raise ValueError("`factors` must hold at least one matrix, got an empty sequence")
    for place, factor in enumerate(factors):
        if not isinstance(factor, Tensor):
            raise TypeError(f"`factors[{place}]` must be a torch.Tensor, got {type(factor).__name__}")
        if factor.layout != torch.strided:
            raise TypeError(
                f"`factors[{place}]` must be a dense matrix, got {factor.layout}; use "
                f"factors[{place}].to_dense()"
            )
        if factor.is_complex():
            raise TypeError(
                f"`factors[{place}]` must hold real numbers, got {factor.dtype}; use factors[{place}].real "
                "if the imaginary parts do not matter"
            )
        if factor.dim() != 2:
            raise ValueError(f"`factors[{place}]` must be a matrix, got shape {tuple(factor.shape)}")
    for place in range(1, len(factors)):
        inner, outer = factors[place - 1].shape, factors[place].shape
        if outer[1] != inner[0]:
            raise ValueError(
                f"`factors[{place}]` must have as many columns as `factors[{place - 1}]` has rows, got "
                f"shapes {tuple(outer)} and {tuple(inner)}; give factors as [W_1, …, W_N], W_N leftmost"
            )
        if inner[0] == 0:
            raise ValueError(f"`factors[{place - 1}]` must have at least one row, got shape {tuple(inner)}")
    return (factors[0].shape[1], *(factor.shape[0] for factor in factors))


def shape_of(factors: Sequence[Tensor]) -> tuple[int, int]:
    """Return the shape ``(m, n)`` of the product.

    Args:
        factors: ``[W_1, …, W_N]``, ``W_j`` of shape ``(d_j, d_{j-1})``.

    Raises:
        TypeError, ValueError: as for `dims_of`.

    Example:
        >>> shape_of([torch.ones(4, 3), torch.ones(2, 4)])
        (2, 3)

    """
    dims = dims_of(factors)
    return (dims[-1], dims[0])


def narrowest_split(dims: Sequence[int]) -> int | None:
    """Return the first ``s`` from 1 to N-1 with the smallest ``d_s``; None at depth 1.

    >>> narrowest_split((3, 4, 2, 2, 5))
    2
    """
    return min(range(1, len(dims) - 1), key=dims.__getitem__, default=None)


def _two_factors(factors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return ``W_1`` and the product of all other factors, float64."""
    first, *others = (factor.detach().double() for factor in factors)
    return first, chain_product(others) if others else torch.eye(
        len(first), dtype=first.dtype, device=first.device
    )


def _finite(matrix: Tensor) -> Tensor:
    """Refuse NaN and infinity, for which LAPACK returns NaN, fails or prints to standard output."""
    if not matrix.isfinite().all():
        raise LinAlgError("the product of `factors` must be finite, got infinity or NaN")
    return matrix
