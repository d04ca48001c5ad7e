"""The rows and columns of a model as linear regressions on the fixed factors of the other side.

A row predicts ``coefficients · features_j + offset_j`` at column j, and its ratings determine its
coefficients; columns likewise.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import Parameter

from dmf_fast.chain import chain_product
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations

_BLOCK_NUMBERS = 1 << 22
_NEGLIGIBLE = 1e-12  # of the largest variance: smaller ones are rounding errors


@torch.no_grad()
def linear_regression(model: DeepMatrixFactorization, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows (axis 0) or columns (axis 1) of a model as linear regressions.

    A row's coefficients are its row of the last factor, and the features are the product of the other
    factors; columns have the first factor. A bias is one more coefficient, whose feature is 1. The offsets
    are the mean plus the biases of the other side.

    Returns:
        float64 copies: coefficients ``(rows, p)``, features ``(columns, p)`` and offsets ``(columns,)``; with
        rows and columns swapped for axis 1.

    Example:
        >>> model = DeepMatrixFactorization((4, 3), depth=3, hidden=2, bias=True, seed=0)
        >>> coefficients, features, offsets = linear_regression(model, axis=1)
        >>> coefficients.shape, features.shape, offsets.shape
        (torch.Size([3, 3]), torch.Size([4, 3]), torch.Size([4]))

    """
    factors = [factor.detach().double() for factor in model.factors]
    if axis == 0:
        coefficients, others = factors[-1], factors[:-1]
        features = (
            chain_product(others).T
            if others
            else torch.eye(model.shape[1], dtype=torch.float64, device=coefficients.device)
        )
    else:
        coefficients, others = factors[0].T, factors[1:]
        features = (
            chain_product(others)
            if others
            else torch.eye(model.shape[0], dtype=torch.float64, device=coefficients.device)
        )
    offsets = model.mean.double().expand(len(features))
    if model.row_bias is None or model.column_bias is None:
        return coefficients, features, offsets
    own_bias, other_bias = (model.row_bias, model.column_bias)[:: 1 if axis == 0 else -1]
    return (
        torch.cat([coefficients, own_bias.detach().double()[:, None]], 1),
        torch.cat([features, features.new_ones(len(features), 1)], 1),
        offsets + other_bias.detach().double(),
    )


def with_coefficients(
    model: DeepMatrixFactorization, axis: int, coefficients: Tensor
) -> DeepMatrixFactorization:
    """Return a copy of ``model`` with other rows or columns, one per row of ``coefficients``.

    >>> model = DeepMatrixFactorization((4, 3), depth=2, bias=True, seed=0)
    >>> coefficients, _, _ = linear_regression(model, axis=0)
    >>> with_coefficients(model, 0, torch.cat([coefficients, coefficients])).shape
    (8, 3)
    """
    result = copy.deepcopy(model)
    numbers = coefficients.to(model.mean.dtype)
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


def gaussian_prior(coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of coefficients, shape ``(count, p)``, and a square root of their covariance.

    The covariance is ``root rootᵀ``; ``root`` has shape ``(p, r)`` and full rank.

    >>> gaussian_prior(torch.tensor([[1.0, 0.0], [3.0, 0.0]], dtype=torch.float64))[0].tolist()
    [2.0, 0.0]
    """
    mean = coefficients.mean(0)
    centered = coefficients - mean
    variances, directions = torch.linalg.eigh(centered.T @ centered / len(coefficients))
    kept = variances > _NEGLIGIBLE * variances.max().clamp(min=torch.finfo(torch.float64).tiny)
    return mean, directions[:, kept] * variances[kept].sqrt()


def posterior_changes(
    root: Tensor, features: Tensor, residuals: Observations, noise_variance: float
) -> Tensor:
    """Return the changes of the coefficients of every row due to the residuals of its ratings.

    With ``F`` the features of a row's ratings, ``e`` their residuals, ``R`` the ``root`` of the prior
    covariance and ``σ²`` the noise variance of a rating, the change is

        ``R (Rᵀ Fᵀ F R + σ² I)⁻¹ Rᵀ Fᵀ e``,

    the mean of a Gaussian posterior; Bishop, "Pattern Recognition and Machine Learning" (2006), section 3.3.
    It is linear in ``e``: ratings one after the other give the same as all at once. Coefficients without
    variance in ``root`` never change.

    Args:
        root: shape ``(p, r)``, float64; see `gaussian_prior`.
        features: shape ``(n, p)``, float64.
        residuals: of shape ``(m, n)``: rating minus prediction, 0 for ratings that the row has been trained
            on. Weights are positive.
        noise_variance: above 0.

    Returns:
        The changes, shape ``(m, p)``, float64.

    Example:
        >>> one = torch.ones(1, 1, dtype=torch.float64)
        >>> posterior_changes(one, one, Observations([0], [0], one[0]), noise_variance=1.0)
        tensor([[0.5000]], dtype=torch.float64)

    """
    rows, columns = residuals.coordinates()
    distinct, columns = torch.unique(columns, return_inverse=True)
    directions = features[distinct] @ root
    order = torch.argsort(rows, stable=True)
    columns, targets = columns[order], residuals.values.double()[order]
    weights = residuals.weights
    scales = torch.ones_like(targets) if weights is None else weights.double()[order].sqrt()
    changes = root.new_zeros(residuals.shape[0], root.shape[1])
    for block, places, given in _blocks(torch.bincount(rows, minlength=len(changes)), root.shape[1]):
        scale = torch.where(given, scales[places], 0.0)
        design = directions[columns[places]] * scale[:, :, None]
        target = targets[places] * scale
        normal = design.mT @ design
        normal.diagonal(dim1=1, dim2=2).add_(noise_variance)
        pull = design.mT @ target[:, :, None]
        changes[block] = torch.cholesky_solve(pull, torch.linalg.cholesky(normal))[:, :, 0]
    return changes @ root.T


def _blocks(counts: Tensor, rank: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield blocks of rows with similar numbers of entries.

    Each comes with the positions of its entries in row order, shape ``(rows, width)``, and a mask of those
    that belong to the row.
    """
    starts = counts.cumsum(0) - counts
    longest_first = torch.argsort(counts, descending=True, stable=True)
    begin = 0
    while begin < len(longest_first):
        width = int(counts[longest_first[begin]])
        if width == 0:
            return
        size = max(1, _BLOCK_NUMBERS // (max(width, rank) * max(1, rank)))
        rows = longest_first[begin : begin + size]
        steps = torch.arange(width, device=counts.device)
        given = steps < counts[rows, None]
        yield rows, torch.where(given, starts[rows, None] + steps, 0), given
        begin += size
