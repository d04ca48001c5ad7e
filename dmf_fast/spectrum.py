"""Measures of a spectrum: functions of the singular values of a matrix, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from dmf_fast.checks import real_number


def effective_rank(singular_values: Tensor) -> Tensor:
    """Return the effective rank ``exp(−Σ p_i log p_i)`` with ``p_i = σ_i / Σ σ``.

    It lies between 1 and the rank, which it equals if all positive singular values are equal; it is 0 for the
    zero matrix. Roy & Vetterli, "The Effective Rank: A Measure of Effective Dimensionality" (EUSIPCO 2007);
    Arora, Cohen, Hu & Luo (NeurIPS 2019) track it during the training of deep matrix factorizations.

    Args:
        singular_values: ``(k,)``, of any real dtype, nonnegative and in any order.

    Returns:
        A scalar, float64.

    Raises:
        TypeError: ``singular_values`` is not a tensor of real numbers.
        ValueError: it is not one-dimensional, or holds a negative number or NaN.

    Example:
        >>> effective_rank(torch.tensor([3.0, 3.0, 0.0])).round(decimals=12)
        tensor(2., dtype=torch.float64)

    """
    shares, largest = _scaled(singular_values)
    if largest == 0:
        return largest
    entropy: Tensor = torch.special.entr(shares / shares.sum()).sum()
    return entropy.exp()


def nuclear_norm(singular_values: Tensor) -> Tensor:
    """Return the nuclear norm ``Σ σ_i``, the convex surrogate of the rank.

    Fazel, "Matrix Rank Minimization with Applications" (2002); Candès & Recht, "Exact Matrix Completion via
    Convex Optimization" (2009).

    Args:
        singular_values: ``(k,)``, of any real dtype, nonnegative and in any order.

    Returns:
        A scalar, float64.

    Raises:
        TypeError, ValueError: as for `effective_rank`.

    Example:
        >>> nuclear_norm(torch.tensor([3.0, 1.0, 0.0]))
        tensor(4., dtype=torch.float64)

    """
    return _checked(singular_values).sum()


def schatten_norm(singular_values: Tensor, p: float) -> Tensor:
    """Return the Schatten-p norm ``(Σ σ_i^p)^(1/p)``; below ``p = 1`` it is a quasi-norm.

    At ``p = 2/N`` its p-th power is ``1/N`` times the minimum of ``Σ ‖W_j‖_F²`` over all chains whose product
    ``W_N ⋯ W_1`` is the matrix: Shang, Liu & Cheng, "Unified Scalable Equivalent Formulations for Schatten
    Quasi-Norms" (2016). The smaller ``p`` is, the more it is affected by rounding errors in singular values
    that should be zero.

    Args:
        singular_values: ``(k,)``, of any real dtype, nonnegative and in any order.
        p: a finite number above 0; 1 gives the nuclear norm, 2 the Frobenius norm.

    Returns:
        A scalar, float64; 0 for the zero matrix.

    Raises:
        TypeError: as for `effective_rank`, or ``p`` is not a number.
        ValueError: as for `effective_rank`, or ``p`` is out of range.

    Example:
        >>> schatten_norm(torch.tensor([4.0, 1.0]), 0.5)
        tensor(9., dtype=torch.float64)

    """
    real_number("p", p, above=0)
    shares, largest = _scaled(singular_values)
    if largest == 0:
        return largest
    return largest * (shares**p).sum() ** (1 / p)


def _scaled(singular_values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values divided by the largest, so that no power overflows, and the largest, 0 if none."""
    values = _checked(singular_values)
    largest = values.max() if len(values) else values.new_zeros(())
    return values / largest, largest


def _checked(singular_values: Tensor) -> Tensor:
    if not isinstance(singular_values, Tensor) or singular_values.is_complex():
        got = singular_values.dtype if isinstance(singular_values, Tensor) else type(singular_values).__name__
        raise TypeError(f"`singular_values` must be a tensor of real numbers, got {got}")
    if singular_values.dim() != 1:
        raise ValueError(
            f"`singular_values` must be one-dimensional, got shape {tuple(singular_values.shape)}; "
            "torch.linalg.svdvals computes those of a matrix"
        )
    values = singular_values.double()
    bad = ~(values >= 0)
    if bad.any():
        place = int(bad.int().argmax())
        raise ValueError(
            f"`singular_values` must be at least 0, got singular_values[{place}] = {float(values[place])}"
        )
    return values
