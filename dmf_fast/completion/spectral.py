"""Balanced factors along singular vectors, of the observed values or of an existing product."""

from __future__ import annotations

import torch
from torch import Tensor

from dmf_fast.completion.gradient import LeadingDirections, leading_directions
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.ops.operators import accumulator_dtype
from dmf_fast.ops.row_qr import householder_qr
from dmf_fast.sharding import WHOLE, RowSharding, local_part
from dmf_fast.threads import one_thread

# Passes over the entries until the directions have converged.
_PASSES = 6


def balanced_factors(
    directions: LeadingDirections, singular_values: Tensor, depth: int, sharding: RowSharding = WHOLE
) -> list[Tensor]:
    """Return ``[W_1, …, W_N]`` with the product ``U · diag(s) · Vᵀ`` and ``W_{j+1}ᵀ W_{j+1} = W_j W_jᵀ``.

    ``sharding``: of the rows; the last factor holds those of this process.

    >>> directions = LeadingDirections(torch.eye(3)[:, :1], torch.ones(1), torch.eye(2)[:, :1])
    >>> [tuple(factor.shape) for factor in balanced_factors(directions, torch.tensor([8.0]), depth=3)]
    [(1, 2), (1, 1), (3, 1)]
    """
    if depth == 1:
        parts = sharding.split(directions.left * singular_values)
        return [torch.cat([part @ directions.right.T for part in parts])]
    root = singular_values ** (1 / depth)
    middle = [torch.diag(root) for _ in range(depth - 2)]
    return [root[:, None] * directions.right.T, *middle, directions.left * root]


@torch.no_grad()
def spectral_factors(
    train: Observations, width: int, depth: int, init_scale: float, *, mean: float = 0.0, seed: int = 0
) -> list[Tensor]:
    """Return balanced factors ``[W_1, …, W_N]`` along the leading singular vectors of the observed values.

    Gradient descent from zero first moves along the matrix of the values minus ``mean`` on Ω, zero elsewhere.
    All ``width`` singular values of the product are ``init_scale``, like those of an orthogonal start of full
    width: this chain is the part of that one that moves (Yaras, Wang, Balzano & Qu, "Compressible
    Dynamics in Deep Overparameterized Low-Rank Learning & Adaptation", ICML 2024).

    Args:
        train: determines dtype and device; processes may share its rows.
        width: of all hidden spaces; at most ``min(m, n)``.
        depth: ``N``, at least 1.
        init_scale: above 0.
        mean: of the model, added to its predictions.
        seed: of the random vectors used to find the singular vectors.

    Example:
        >>> train = Observations([0, 1], [0, 1], [3.0, 1.0])
        >>> first, second = spectral_factors(train, width=1, depth=2, init_scale=0.01)
        >>> (second @ first).round(decimals=4)
        tensor([[0.0100, 0.0000],
                [0.0000, 0.0000]])

    """
    sharding, kept = train.sharding, {"dtype": train.dtype, "device": train.device}
    rows = sum(part.shape[0] for part in train.parts)
    row, column = torch.zeros(1, train.shape[1], **kept), torch.zeros(rows, 1, **kept)  # type: ignore[call-overload]
    zero = DeepMatrixFactorization.of_factors([sharding.replicated(row), sharding.sharded(column)])
    zero.mean.fill_(mean)
    directions = leading_directions(zero, train, width, passes=_PASSES, seed=seed)
    sizes = torch.full_like(directions.values, init_scale)
    *shared, last = (
        factor.to(train.dtype) for factor in balanced_factors(directions, sizes, depth, sharding)
    )
    return [*map(sharding.replicated, shared), sharding.sharded(last)]


@torch.no_grad()
def product_directions(model: DeepMatrixFactorization, sharding: RowSharding = WHOLE) -> LeadingDirections:
    """Return the singular value decomposition of the product of the parameters, of their width.

    Two thin QR decompositions and the SVD of an h × h matrix, in one thread: bit-identical for any number.
    """
    dtype = accumulator_dtype(model.mean.dtype)
    left, *others = reversed([local_part(factor.detach()).to(dtype) for factor in model.factors])
    with one_thread():
        for factor in others[:-1]:
            left = torch.cat([part @ factor for part in sharding.split(left)])
        q_left, r_left = householder_qr(left, sharding)
        q_right, r_right = torch.linalg.qr(others[-1].T)
        vectors, values, turned = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
        turned_left = torch.cat([part @ vectors for part in sharding.split(q_left)])
        return LeadingDirections(turned_left, values, q_right @ turned.T)
