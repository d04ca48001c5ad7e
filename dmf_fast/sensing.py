"""Matrix sensing: linear measurements ``⟨X_k, W⟩`` of a matrix, and the loss over them.

Completion is the special case in which each ``X_k`` has a single nonzero entry. Here the ``X_k`` are dense,
so ``W`` itself is needed: `dmf_fast.chain.chain_product` forms it from factors, and one matrix product
measures it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_fast.checks import one_of, real_number, whole_number
from dmf_fast.ops.functional import Reduction


@dataclass(frozen=True, eq=False)
class Measurements:
    """``k`` linear measurements ``y_k = ⟨X_k, W⟩`` of an ``(m, n)`` matrix ``W``.

    Attributes:
        matrices: the ``X_k``, ``(k, m, n)``, float32 or float64, ``k`` ≥ 1; made contiguous.
        values: the ``y_k``, ``(k,)``, of the same dtype and device.

    Raises:
        TypeError: an argument is not a tensor, or the dtypes differ or are neither float32 nor float64.
        ValueError: the shapes do not match, the devices differ, or a number is not finite.

    Example:
        >>> Measurements(torch.ones(5, 2, 3), torch.zeros(5))
        Measurements(shape=(2, 3), count=5, dtype=torch.float32, device=cpu)

    """

    matrices: Tensor
    values: Tensor

    def __post_init__(self) -> None:
        for name in ("matrices", "values"):
            _check_real(name, getattr(self, name))
        matrices, values = self.matrices, self.values
        if matrices.dim() != 3 or matrices.numel() == 0:
            raise ValueError(
                "`matrices` must have shape (k, m, n) with k, m and n at least 1, got shape "
                f"{tuple(matrices.shape)}"
            )
        if values.shape != matrices.shape[:1]:
            raise ValueError(
                f"`values` must have shape ({len(matrices)},), one value for each of `matrices`, got shape "
                f"{tuple(values.shape)}"
            )
        if values.dtype != matrices.dtype:
            raise TypeError(
                f"`values` must have the dtype of `matrices`, {matrices.dtype}, got {values.dtype}; "
                "use values.to(matrices.dtype)"
            )
        if values.device != matrices.device:
            raise ValueError(
                f"`values` must be on the device of `matrices`, {matrices.device}, got "
                f"{values.device}; use values.to(matrices.device)"
            )
        object.__setattr__(self, "matrices", matrices.detach().contiguous())
        object.__setattr__(self, "values", values.detach())

    @property
    def shape(self) -> tuple[int, int]:
        """Shape ``(m, n)`` of the measured matrix."""
        return (self.matrices.shape[1], self.matrices.shape[2])

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the matrices and values."""
        return self.matrices.dtype

    @property
    def device(self) -> torch.device:
        """Device of the matrices and values."""
        return self.matrices.device

    def __len__(self) -> int:
        """Return the number ``k`` of measurements."""
        return len(self.matrices)

    def __repr__(self) -> str:
        return (
            f"Measurements(shape={self.shape}, count={len(self)}, dtype={self.dtype}, device={self.device})"
        )


def sensing_product(product: Tensor, measurements: Measurements) -> Tensor:
    """Return ``⟨X_k, W⟩ = Σ_ij (X_k)_ij W_ij`` for all ``k``, by one matrix product.

    Args:
        product: ``W``, ``(m, n)``, or a batch of them, ``(…, m, n)``, of the dtype and device of
            ``measurements``.
        measurements: the ``X_k``; their values are not used.

    Returns:
        ``(k,)`` or ``(…, k)``, differentiable any number of times in ``product``.

    Raises:
        TypeError: ``product`` is not a tensor, or the dtypes differ.
        ValueError: the shapes do not match, or the devices differ.

    Example:
        >>> traces = Measurements(torch.eye(2)[None], torch.zeros(1))
        >>> sensing_product(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), traces)
        tensor([5.])

    """
    _check_product(product, measurements)
    return torch.nn.functional.linear(product.flatten(-2), measurements.matrices.flatten(1))


def sensing_loss(product: Tensor, measurements: Measurements, reduction: Reduction = "mean") -> Tensor:
    """Return ``Σ_k (⟨X_k, W⟩ − y_k)²``, or its mean over ``k``: the objective of matrix sensing.

    Arora, Cohen, Hu & Luo, "Implicit Regularization in Deep Matrix Factorization" (NeurIPS 2019), section 2.
    For independent ``X_k`` whose entries have variance ``1/(mn)``, as `gaussian_measurements` draws them, the
    mean estimates ``‖W − W*‖²_F / (mn)``, the mean squared error per entry. The mean of
    `dmf_fast.completion_loss` estimates the same, so that losses and thresholds of the two are comparable.

    Args:
        product: ``W``, ``(m, n)``, or a batch of them, ``(…, m, n)``, of the dtype and device of
            ``measurements``.
        measurements: ``X_k`` and ``y_k``.
        reduction: ``"sum"``, or ``"mean"``, which divides by the number of measurements.

    Returns:
        A scalar, or ``(…)``, of the dtype of ``product``; summed in float64. Differentiable any number of
        times in ``product``.

    Raises:
        TypeError: as for `sensing_product`.
        ValueError: as for `sensing_product`, or ``reduction`` is unknown.

    Example:
        >>> traces = Measurements(torch.eye(2)[None], torch.tensor([3.0]))
        >>> sensing_loss(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), traces)
        tensor(4.)

    """
    one_of("reduction", reduction, ("mean", "sum"))
    residual = sensing_product(product, measurements) - measurements.values
    total = residual.square().sum(-1, dtype=torch.float64)
    return (total / len(measurements) if reduction == "mean" else total).to(residual.dtype)


def gaussian_measurements(truth: Tensor, count: int, seed: int, *, noise: float = 0.0) -> Measurements:
    """Measure a matrix with independent Gaussian ``X_k``, entries of mean 0 and variance ``1/(mn)``.

    The distribution is that of the public code of Arora, Cohen, Hu & Luo (NeurIPS 2019;
    roosephu/deep_matrix_factorization on GitHub), which divides standard normals by ``n`` for an ``(n, n)``
    matrix; `sensing_loss` explains the scale. The draws are made in float64 on the CPU, so that a seed gives
    the same measurements for every dtype and device.

    Args:
        truth: ``W*``, ``(m, n)``, float32 or float64; determines dtype and device.
        count: ``k``, at least 1.
        seed: in ``[0, 2**63)``.
        noise: standard deviation of the Gaussian noise on the values, comparable with the noise per entry in
            completion.

    Raises:
        TypeError: ``truth`` is not a float32 or float64 tensor, or ``count`` or ``noise`` is not a number.
        ValueError: ``truth`` is not a finite matrix with entries, ``count`` is below 1, or ``noise`` is
            negative or not finite.

    Example:
        >>> gaussian_measurements(torch.ones(4, 3), count=7, seed=0).matrices.shape
        torch.Size([7, 4, 3])

    """
    _check_real("truth", truth)
    if truth.dim() != 2 or truth.numel() == 0:
        raise ValueError(f"`truth` must be a matrix (m, n) with entries, got shape {tuple(truth.shape)}")
    whole_number("count", count, least=1)
    real_number("noise", noise, least=0)
    generator = torch.Generator().manual_seed(seed)
    matrices = torch.randn(count, *truth.shape, generator=generator, dtype=torch.float64, device="cpu")
    matrices = matrices.div_(math.sqrt(truth.numel())).to(truth.dtype)
    # Measured with the rounded matrices, so that the truth fits the values.
    values = matrices.double().flatten(1) @ truth.detach().double().cpu().flatten()
    values += noise * torch.randn(count, generator=generator, dtype=torch.float64, device="cpu")
    return Measurements(matrices.to(truth.device), values.to(truth))


def _check_real(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"`{name}` must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"`{name}` must be float32 or float64, got {tensor.dtype}; use {name}.float()")
    if not tensor.isfinite().all():
        raise ValueError(f"`{name}` must be finite, got infinity or NaN")


def _check_product(product: Tensor, measurements: Measurements) -> None:
    if not isinstance(product, Tensor):
        raise TypeError(
            f"`product` must be a torch.Tensor, got {type(product).__name__}; use "
            "dmf_fast.chain.chain_product for a chain of factors"
        )
    if product.dtype != measurements.dtype:
        raise TypeError(
            f"`product` must have the dtype of `measurements`, {measurements.dtype}, got {product.dtype}; "
            "use product.to(measurements.dtype)"
        )
    if tuple(product.shape[-2:]) != measurements.shape:
        raise ValueError(
            f"`product` must have shape (…, m, n) with (m, n) = {measurements.shape}, got "
            f"shape {tuple(product.shape)}"
        )
    if product.device != measurements.device:
        raise ValueError(
            f"`product` must be on the device of `measurements`, {measurements.device}, got "
            f"{product.device}; use product.to(measurements.device)"
        )
