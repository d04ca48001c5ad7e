"""Gradients of the raw operators, of any order.

``ObservedProduct`` and ``ObservedProductGradients`` are each other's derivatives, so the two close under
differentiation. ``CompletionLoss`` has its gradients ready when its forward sweep ends; only a backward
that must itself be differentiable goes back to the other two. ``GatherObserved`` and
``ScatterObserved``, for the plan that forms the matrix, are each other's adjoints.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dmf_fast.ops import operators  # noqa: F401 (registers torch.ops.dmf_fast)

_native = torch.ops.dmf_fast


def observed_product(a: Tensor, b_transposed: Tensor, layout: Tensor, nnz: int) -> Tensor:
    """Return ``(a @ b_transposed.T)`` at the observed entries, shape ``(nnz,)``, in the caller's order."""
    return ObservedProduct.apply(a, b_transposed, layout, nnz)


def completion_loss(
    a: Tensor,
    b_transposed: Tensor,
    layout: Tensor,
    values: Tensor,
    weights: Tensor | None,
    scale: float,
    tile_precision: str | None = None,
) -> Tensor:
    """Return ``scale`` Σ w (a·b − value)²; ``values`` and ``weights`` are in tile order.

    Where gradients are needed, ``tile_precision`` makes the tensor cores compute them with the loss.
    """
    if not (torch.is_grad_enabled() and (a.requires_grad or b_transposed.requires_grad)):
        return CompletionLossAlone.apply(a, b_transposed, layout, values, weights, scale)
    return CompletionLoss.apply(a, b_transposed, layout, values, weights, scale, tile_precision)[0]


def dense_completion_loss(
    dense: Tensor, layout: Tensor, values: Tensor, weights: Tensor | None, scale: float
) -> Tensor:
    """Return :func:`completion_loss` for a product that was formed, ``dense`` of shape ``(m, n)``."""
    if not (torch.is_grad_enabled() and dense.requires_grad):
        return DenseLossAlone.apply(dense, layout, values, weights, scale)
    return DenseLoss.apply(dense, layout, values, weights, scale)[0]


def gather_observed(dense: Tensor, layout: Tensor, nnz: int) -> Tensor:
    """Return the observed entries of ``dense``, shape ``(nnz,)``, in the caller's order."""
    return GatherObserved.apply(dense, layout, nnz)


class ObservedProduct(Function):
    """``P(A, B) = (A Bᵀ)`` on Ω."""

    @staticmethod
    def forward(a: Tensor, b_transposed: Tensor, layout: Tensor, nnz: int) -> Tensor:
        """Run the sweep that only multiplies."""
        return _native.observed_product_forward(a, b_transposed, layout, nnz)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep both sides."""
        ctx.save_for_backward(*inputs[:3])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Differentiate: dA = G B and dB = Gᵀ A."""
        a, b_transposed, layout = ctx.saved_tensors
        return *ObservedProductGradients.apply(gradient, a, b_transposed, layout), None, None


class ObservedProductGradients(Function):
    """``(G B, Gᵀ A)`` for a sparse ``G`` on Ω, in the dtype of ``A``."""

    @staticmethod
    def forward(
        coefficients: Tensor, a: Tensor, b_transposed: Tensor, layout: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run the sweep that only scatters."""
        gradient_a, gradient_b = _native.observed_product_backward(
            coefficients.contiguous(), a, b_transposed, layout
        )
        return gradient_a.to(a.dtype), gradient_b.to(a.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep all inputs."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, along_a: Tensor, along_b: Tensor) -> tuple[Tensor | None, ...]:
        """Differentiate ⟨X, G B⟩ + ⟨Y, Gᵀ A⟩: dG = P(X, B) + P(A, Y), dA = G Y, dB = Gᵀ X."""
        coefficients, a, b_transposed, layout = ctx.saved_tensors
        along_a, along_b = along_a.contiguous(), along_b.contiguous()
        nnz = coefficients.numel()
        gradient_coefficients = observed_product(along_a, b_transposed, layout, nnz) + observed_product(
            a, along_b, layout, nnz
        )
        gradient_a, gradient_b = ObservedProductGradients.apply(coefficients, along_a, along_b, layout)
        return gradient_coefficients, gradient_a, gradient_b, None


class CompletionLoss(Function):
    """``scale`` Σ_Ω w (A Bᵀ − value)², and from the same sweep its two gradients."""

    @staticmethod
    def forward(
        a: Tensor,
        b_transposed: Tensor,
        layout: Tensor,
        values: Tensor,
        weights: Tensor | None,
        scale: float,
        tile_precision: str | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the fused sweep, or the tiles."""
        arguments = (a, b_transposed, layout, values, weights, scale)
        if tile_precision is None:
            return _native.completion_loss_gradients(*arguments)
        return _native.tile_loss_gradients(*arguments, tile_precision)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        """Keep the gradients, and what a second derivative would need."""
        a, b_transposed, layout, values, weights, ctx.scale, _ = inputs
        _, gradient_a, gradient_b = output
        ctx.mark_non_differentiable(gradient_a, gradient_b)
        _spare_zeros(ctx)
        ctx.save_for_backward(a, b_transposed, layout, values, weights, gradient_a, gradient_b)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *unused: Tensor | None) -> tuple[Tensor | None, ...]:
        """Scale the gradients that the forward sweep left; recompute them where they must have a graph."""
        if gradient is None:
            return (None,) * 7
        a, b_transposed, layout, values, weights, gradient_a, gradient_b = ctx.saved_tensors
        if torch.is_grad_enabled():
            pair = _differentiable_gradients(a, b_transposed, layout, values, weights, gradient * ctx.scale)
        else:
            pair = _scaled(gradient_a, gradient).to(a.dtype), _scaled(gradient_b, gradient).to(a.dtype)
        return *pair, None, None, None, None, None


class CompletionLossAlone(Function):
    """``scale`` Σ_Ω w (A Bᵀ − value)² where no gradient is needed.

    A Function and not the bare operator, as torch would take the tangents of forward-mode differentiation
    through that for zero; here it raises.
    """

    @staticmethod
    def forward(
        a: Tensor, b_transposed: Tensor, layout: Tensor, values: Tensor, weights: Tensor | None, scale: float
    ) -> Tensor:
        """Run the sweep that only adds up."""
        return _native.completion_loss_forward(a, b_transposed, layout, values, weights, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep nothing."""


def _differentiable_gradients(
    a: Tensor, b_transposed: Tensor, layout: Tensor, values: Tensor, weights: Tensor | None, scale: Tensor
) -> tuple[Tensor, Tensor]:
    products = observed_product(a, b_transposed, layout, values.numel())
    coefficients = _coefficients(products, layout, values, weights, scale)
    return ObservedProductGradients.apply(coefficients, a, b_transposed, layout)


def _scaled(ready: Tensor, gradient: Tensor) -> Tensor:
    """Return ``gradient * ready``; where the loss itself is differentiated, without a copy."""
    # Reading the number would make a GPU wait, and torch.compile does not know it.
    if not torch.compiler.is_compiling() and gradient.device.type == "cpu" and gradient.item() == 1.0:
        return ready
    return gradient * ready


def _spare_zeros(ctx: Any) -> None:
    """Keep torch from making a gradient of zeros for every output that has none."""
    if not torch.compiler.is_compiling():
        ctx.set_materialize_grads(False)


def _coefficients(
    products: Tensor, layout: Tensor, values: Tensor, weights: Tensor | None, scale: Tensor
) -> Tensor:
    """Return 2 · scale · w (product − value), in the caller's order and the dtype of ``products``."""
    coefficients = 2.0 * scale * (products - _native.caller_order(values, layout))
    if weights is not None:
        coefficients = coefficients * _native.caller_order(weights, layout)
    return coefficients.to(products.dtype)


class DenseLoss(Function):
    """``scale`` Σ_Ω w (W − value)², and from the same pass its gradient."""

    @staticmethod
    def forward(
        dense: Tensor, layout: Tensor, values: Tensor, weights: Tensor | None, scale: float
    ) -> tuple[Tensor, Tensor]:
        """Run the fused pass."""
        return _native.dense_loss_gradient(dense.contiguous(), layout, values, weights, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep the gradient, and what a second derivative would need."""
        dense, layout, values, weights, ctx.scale = inputs
        ctx.mark_non_differentiable(output[1])
        _spare_zeros(ctx)
        ctx.save_for_backward(dense, layout, values, weights, output[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, unused: Tensor | None) -> tuple[Tensor | None, ...]:
        """Scale the gradient that the forward pass left; recompute it where it must have a graph."""
        if gradient is None:
            return (None,) * 5
        dense, layout, values, weights, ready = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return _scaled(ready, gradient).to(dense.dtype), None, None, None, None
        products = gather_observed(dense, layout, values.numel()).to(ready.dtype)
        coefficients = _coefficients(products, layout, values, weights, gradient * ctx.scale).to(dense.dtype)
        return ScatterObserved.apply(coefficients, layout, *dense.shape), None, None, None, None


class DenseLossAlone(Function):
    """``scale`` Σ_Ω w (W − value)² where no gradient is needed; raises under forward mode."""

    @staticmethod
    def forward(
        dense: Tensor, layout: Tensor, values: Tensor, weights: Tensor | None, scale: float
    ) -> Tensor:
        """Run the pass that only adds up."""
        return _native.dense_loss_forward(dense.contiguous(), layout, values, weights, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep nothing."""


class GatherObserved(Function):
    """The observed entries of a dense matrix."""

    @staticmethod
    def forward(dense: Tensor, layout: Tensor, nnz: int) -> Tensor:
        """Copy the entries out."""
        return _native.gather_observed(dense.contiguous(), layout, nnz)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the layout and the shape."""
        dense, layout, _ = inputs
        ctx.save_for_backward(layout)
        ctx.shape = dense.shape

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Put the entries back into a matrix of zeros."""
        (layout,) = ctx.saved_tensors
        return ScatterObserved.apply(gradient, layout, *ctx.shape), None, None


class ScatterObserved(Function):
    """A dense matrix with the given entries on Ω and 0 elsewhere."""

    @staticmethod
    def forward(values: Tensor, layout: Tensor, rows: int, columns: int) -> Tensor:
        """Copy the entries in."""
        return _native.scatter_observed(values.contiguous(), layout, rows, columns)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the layout and the number of entries."""
        values, layout, *_ = inputs
        ctx.save_for_backward(layout)
        ctx.nnz = values.numel()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Take the entries out again."""
        (layout,) = ctx.saved_tensors
        return GatherObserved.apply(gradient, layout, ctx.nnz), None, None, None
