"""The two operations on a chain of factors: its observed entries and the loss over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from dmf_fast import cuda
from dmf_fast.chain import shape_of
from dmf_fast.checks import one_of
from dmf_fast.observations import Observations
from dmf_fast.observations.validation import DTYPES, move_advice
from dmf_fast.ops import autograd
from dmf_fast.ops.operators import accumulator_dtype
from dmf_fast.ops.planner import Order, Plan, plan_for
from dmf_fast.ops.sharded import chains_of_parts, total_loss

Reduction = Literal["mean", "sum"]

_GPU_WIDTH_STEP = 8  # numbers of 16 bits in 16 bytes


def observed_product(
    factors: Sequence[Tensor],
    observations: Observations,
    *,
    row_bias: Tensor | None = None,
    column_bias: Tensor | None = None,
) -> Tensor:
    """Return the entries of ``W_N ⋯ W_1`` at the observed positions.

    The product is not formed unless that is faster, for small matrices or nearly full Ω (see
    `dmf_fast.explain`).

    Args:
        factors: ``[W_1, …, W_N]``, ``W_j`` of shape ``(d_j, d_{j-1})`` with ``d_N = m`` rows and
            ``d_0 = n`` columns, of the dtype and device of ``observations``: float64, float32, bfloat16 or
            float16.
        observations: the observed positions of an ``(m, n)`` matrix; their values are not used.
        row_bias: ``(m,)``, ``row_bias[i]`` is added to the entries of row i.
        column_bias: ``(n,)``, ``column_bias[j]`` is added to the entries of column j.

    Returns:
        ``(nnz,)``, in the order in which the entries were given; float64 for float64 factors and float32
        otherwise. Differentiable any number of times in the factors and biases.

    Raises:
        TypeError: a factor or bias is not a dense tensor, or its dtype is not that of ``observations``.
        ValueError: shapes or devices do not match, or the device has no kernels.

    Example:
        >>> import torch, dmf_fast
        >>> positions = dmf_fast.Observations([0, 1], [2, 0], [0.0, 0.0], shape=(2, 3))
        >>> dmf_fast.observed_product([torch.ones(4, 3), torch.ones(2, 4)], positions)
        tensor([4., 4.])

    """
    plan = _checked_plan(factors, observations, row_bias, column_bias)
    layout = observations.layout()
    if plan.split is None:
        dense = _dense_product(factors, plan, row_bias, column_bias, observations.dtype)
        return autograd.gather_observed(dense, layout.buffer, observations.nnz).to(
            accumulator_dtype(dense.dtype)
        )
    a, b_transposed = _two_sides(factors, plan, row_bias, column_bias, observations.dtype)
    return autograd.observed_product(a, b_transposed, layout.buffer, observations.nnz)


def completion_loss(
    factors: Sequence[Tensor],
    observations: Observations,
    reduction: Reduction = "mean",
    *,
    row_bias: Tensor | None = None,
    column_bias: Tensor | None = None,
) -> Tensor:
    """Return Σ_Ω w_ij ((W_N ⋯ W_1)_ij − b_ij)²: the objective of deep matrix factorization.

    Arora, Cohen, Hu and Luo, "Implicit Regularization in Deep Matrix Factorization" (NeurIPS 2019),
    section 2. If gradients are needed, they are computed in the same sweep over the observed entries.

    Args:
        factors: ``[W_1, …, W_N]``, as for :func:`observed_product`.
        observations: observed entries ``b_ij``, with optional weights ``w_ij`` (all 1 by default). For
            `dmf_fast.distributed.RowBlocks` the loss is that of all processes and differentiable once;
            factors and biases are then `DTensor`s, of which ``W_N`` and ``row_bias`` are sharded by rows.
        reduction: ``"sum"``, or ``"mean"``, which divides by the sum of the weights (``nnz`` without
            weights).
        row_bias: ``(m,)``, ``row_bias[i]`` is added to the entries of row i.
        column_bias: ``(n,)``, ``column_bias[j]`` is added to the entries of column j.

    Returns:
        A scalar, float64 for float64 factors and float32 otherwise; summed in float64. Differentiable any
        number of times in the factors and biases.

    Raises:
        TypeError: a factor or bias is not a dense tensor, or its dtype is not that of ``observations``.
        ValueError: shapes or devices do not match, the device has no kernels, ``reduction`` is unknown, or
            it is ``"mean"`` and the weights sum to 0.

    Example:
        >>> import torch, dmf_fast
        >>> observations = dmf_fast.Observations([0, 1], [2, 0], [1.0, 4.0], shape=(2, 3))
        >>> dmf_fast.completion_loss([torch.ones(4, 3), torch.ones(2, 4)], observations, "sum")
        tensor(9.)

    """
    if _checked_entries(observations).parts[0] is not observations:
        return _loss_of_parts(factors, observations, reduction, row_bias, column_bias)
    plan = _checked_plan(factors, observations, row_bias, column_bias)
    scale = _scale_of(reduction, observations)
    layout = observations.layout()
    if plan.split is None:
        dense = _dense_product(factors, plan, row_bias, column_bias, observations.dtype)
        return autograd.dense_completion_loss(dense, layout.buffer, layout.values, layout.weights, scale)
    a, b_transposed = _two_sides(factors, plan, row_bias, column_bias, observations.dtype)
    return autograd.completion_loss(
        a, b_transposed, layout.buffer, layout.values, layout.weights, scale, plan.tile_precision
    )


def _loss_of_parts(
    factors: Sequence[Tensor],
    observations: Observations,
    reduction: Reduction,
    row_bias: Tensor | None,
    column_bias: Tensor | None,
) -> Tensor:
    """Return the loss over rows that are split into parts or over several processes."""
    scale = _scale_of(reduction, observations)
    losses = [
        completion_loss(own, part, "sum", row_bias=own_bias, column_bias=own_column_bias)
        for part, own, own_bias, own_column_bias in chains_of_parts(
            factors, observations, row_bias, column_bias
        )
    ]
    return total_loss(observations.sharding, losses) * scale


def _two_sides(
    factors: Sequence[Tensor],
    plan: Plan,
    row_bias: Tensor | None,
    column_bias: Tensor | None,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Return ``A`` of shape ``(m, h)`` and ``Bᵀ`` of shape ``(n, h)``, contiguous and of ``dtype``.

    A bias is one more hidden unit: a column of ``A`` paired with a column of ones of ``Bᵀ``, or vice versa.
    """
    assert plan.right is not None
    # Autocast computes the products in a narrower dtype than that of the factors.
    a = _multiply(factors, plan.left).to(dtype)
    b_transposed = _multiply_transposed(factors, plan.right).to(dtype)
    left, right = [a], [b_transposed]
    if row_bias is not None:
        left.append(row_bias[:, None])
        right.append(torch.ones_like(b_transposed[:, :1]))
    if column_bias is not None:
        left.append(torch.ones_like(a[:, :1]))
        right.append(column_bias[:, None])
    width = a.shape[1] + len(left) - 1
    if len(left) > 1 and a.device.type == "cuda" and width % _GPU_WIDTH_STEP > 0:
        # Otherwise the kernels would copy both sides again to align rows to 16 bytes.
        padding = _GPU_WIDTH_STEP - width % _GPU_WIDTH_STEP
        left.append(a.new_zeros(a.shape[0], padding))
        right.append(b_transposed.new_zeros(b_transposed.shape[0], padding))
    if len(left) > 1:
        a, b_transposed = torch.cat(left, dim=1), torch.cat(right, dim=1)
    return a.contiguous(), b_transposed.contiguous()


def _dense_product(
    factors: Sequence[Tensor],
    plan: Plan,
    row_bias: Tensor | None,
    column_bias: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """Return ``W``, shape ``(m, n)``, with the biases added, of ``dtype``."""
    dense = _multiply(factors, plan.left).to(dtype)
    if row_bias is not None:
        dense = dense + row_bias[:, None]
    if column_bias is not None:
        dense = dense + column_bias[None, :]
    return dense


def _multiply(factors: Sequence[Tensor], order: Order) -> Tensor:
    if isinstance(order, int):
        return factors[order]
    return _multiply(factors, order[0]) @ _multiply(factors, order[1])


def _multiply_transposed(factors: Sequence[Tensor], order: Order) -> Tensor:
    if isinstance(order, int):
        return factors[order].T
    return _multiply_transposed(factors, order[1]) @ _multiply_transposed(factors, order[0])


def _scale_of(reduction: str, observations: Observations) -> float:
    if one_of("reduction", reduction, ("mean", "sum")) == "sum":
        return 1.0
    total = observations.total_weight
    if total == 0:
        reason = "observations are empty" if observations.nnz == 0 else "all weights are zero"
        raise ValueError(
            f"`reduction` must be 'sum' if {reason}, got 'mean', which divides by the sum of the weights"
        )
    return 1.0 / total


def _checked_entries(observations: Observations) -> Observations:
    if not isinstance(observations, Observations):
        raise TypeError(f"`observations` must be dmf_fast.Observations, got {type(observations).__name__}")
    return observations


def _checked_plan(
    factors: Sequence[Tensor],
    observations: Observations,
    row_bias: Tensor | None,
    column_bias: Tensor | None,
) -> Plan:
    """Check the arguments and return the plan."""
    _checked_entries(observations)
    if observations.device.type != "cpu":
        cuda.check_usable(observations.device)
    shape = shape_of(factors)
    for place, factor in enumerate(factors):
        _check_tensor(f"factors[{place}]", factor, observations)
    if shape != observations.shape:
        raise ValueError(
            "the product of `factors` must have the shape of `observations`, "
            f"{observations.shape}, got {shape}"
        )
    for name, bias, length in (
        ("row_bias", row_bias, observations.shape[0]),
        ("column_bias", column_bias, observations.shape[1]),
    ):
        if bias is not None:
            _check_tensor(name, bias, observations)
            if bias.shape != (length,):
                raise ValueError(f"`{name}` must have shape ({length},), got {tuple(bias.shape)}")
    return plan_for(factors, observations, (row_bias is not None) + (column_bias is not None))


def _check_tensor(name: str, tensor: Tensor, observations: Observations) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"`{name}` must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.dtype != observations.dtype:
        to_tensor, to_observations = (
            f"{name}.to({observations.dtype})",
            f"observations.to(dtype={tensor.dtype})",
        )
        raise TypeError(
            f"`{name}` must have the dtype of `observations`, {observations.dtype}, got {tensor.dtype}; "
            f"use {to_observations if tensor.dtype in DTYPES else to_tensor}"
        )
    if tensor.device != observations.device:
        raise ValueError(
            f"`{name}` must be on the device of `observations`, {observations.device}, got {tensor.device}; "
            f"{move_advice(tensor.device)}"
        )
