"""Gradients of the raw operators, of any order.

``ObservedProduct`` and ``ObservedProductGradients`` are each other's derivatives, so the pair is closed under
differentiation. ``CompletionLoss`` computes its gradients in the forward sweep; only a backward pass that is
itself differentiated falls back on that pair. ``GatherObserved`` and ``ScatterObserved``, for plans that form
the matrix, are each other's adjoints.
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

    If gradients are needed and ``tile_precision`` is given, tensor cores compute the loss and the gradients.
    """
    if not (torch.is_grad_enabled() and (a.requires_grad or b_transposed.requires_grad)):
        return CompletionLossAlone.apply(a, b_transposed, layout, values, weights, scale)
    return CompletionLoss.apply(a, b_transposed, layout, values, weights, scale, tile_precision)[0]


def dense_completion_loss(
    dense: Tensor, layout: Tensor, values: Tensor, weights: Tensor | None, scale: float
) -> Tensor:
    """Return :func:`completion_loss` of a dense product of shape ``(m, n)``."""
    if not (torch.is_grad_enabled() and dense.requires_grad):
        return DenseLossAlone.apply(dense, layout, values, weights, scale)
    return DenseLoss.apply(dense, layout, values, weights, scale)[0]


def gather_observed(dense: Tensor, layout: Tensor, nnz: int) -> Tensor:
    """Return the observed entries of ``dense``, shape ``(nnz,)``, in the caller's order."""
    return GatherObserved.apply(dense, layout, nnz)


class _Unbatched(Function):
    """A Function that says what it needs under `torch.vmap`."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        """Raise an error: one layout serves one chain of factors at a time."""
        raise NotImplementedError(
            "the operators of dmf_fast do not support torch.vmap: call them in a loop, and for a Hessian use "
            "torch.autograd.functional.hessian"
        )


class ObservedProduct(_Unbatched):
    """``P(A, B) = (A Bᵀ)`` on Ω."""

    @staticmethod
    def forward(a: Tensor, b_transposed: Tensor, layout: Tensor, nnz: int) -> Tensor:
        """Compute the products."""
        return _native.observed_product_forward(a, b_transposed, layout, nnz)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save both sides and the layout."""
        ctx.save_for_backward(*inputs[:3])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Differentiate: dA = G B and dB = Gᵀ A."""
        a, b_transposed, layout = ctx.saved_tensors
        return *ObservedProductGradients.apply(gradient, a, b_transposed, layout), None, None


class ObservedProductGradients(_Unbatched):
    """``(G B, Gᵀ A)`` for a sparse ``G`` on Ω, in the dtype of ``A``."""

    @staticmethod
    def forward(
        coefficients: Tensor, a: Tensor, b_transposed: Tensor, layout: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute both products with the sparse matrix."""
        gradient_a, gradient_b = _native.observed_product_backward(
            coefficients.contiguous(), a, b_transposed, layout
        )
        return gradient_a.to(a.dtype), gradient_b.to(a.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Save all inputs."""
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


class CompletionLoss(_Unbatched):
    """``scale`` Σ_Ω w (A Bᵀ − value)², with its two gradients computed in the same sweep."""

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
        """Run the fused sweep, or the dense tiles."""
        arguments = (a, b_transposed, layout, values, weights, scale)
        if tile_precision is None:
            return _native.completion_loss_gradients(*arguments)
        return _native.tile_loss_gradients(*arguments, tile_precision)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        """Save the gradients and what a second derivative needs."""
        a, b_transposed, layout, values, weights, ctx.scale, _ = inputs
        _, gradient_a, gradient_b = output
        ctx.mark_non_differentiable(gradient_a, gradient_b)
        _spare_zeros(ctx)
        ctx.save_for_backward(a, b_transposed, layout, values, weights, gradient_a, gradient_b)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *unused: Tensor | None) -> tuple[Tensor | None, ...]:
        """Scale the gradients of the forward sweep, or recompute them if they need a graph of their own."""
        if gradient is None:
            return (None,) * 7
        a, b_transposed, layout, values, weights, gradient_a, gradient_b = ctx.saved_tensors
        if torch.is_grad_enabled():
            pair = _differentiable_gradients(a, b_transposed, layout, values, weights, gradient * ctx.scale)
        else:
            pair = _scaled(gradient_a, gradient).to(a.dtype), _scaled(gradient_b, gradient).to(a.dtype)
        return *pair, None, None, None, None, None


class CompletionLossAlone(_Unbatched):
    """``scale`` Σ_Ω w (A Bᵀ − value)², if no gradient is needed.

    It is a Function, so that forward-mode differentiation raises an error: torch would silently treat the
    tangents of the bare operator as zero.
    """

    @staticmethod
    def forward(
        a: Tensor, b_transposed: Tensor, layout: Tensor, values: Tensor, weights: Tensor | None, scale: float
    ) -> Tensor:
        """Compute the loss alone."""
        return _native.completion_loss_forward(a, b_transposed, layout, values, weights, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save nothing."""


def _differentiable_gradients(
    a: Tensor, b_transposed: Tensor, layout: Tensor, values: Tensor, weights: Tensor | None, scale: Tensor
) -> tuple[Tensor, Tensor]:
    products = observed_product(a, b_transposed, layout, values.numel())
    coefficients = _coefficients(products, layout, values, weights, scale)
    return ObservedProductGradients.apply(coefficients, a, b_transposed, layout)


def _scaled(ready: Tensor, gradient: Tensor) -> Tensor:
    """Return ``gradient * ready``, without a copy if ``gradient`` is known to be 1."""
    # Reading it would synchronize a GPU, and torch.compile cannot trace it.
    if not torch.compiler.is_compiling() and gradient.device.type == "cpu" and gradient.item() == 1.0:
        return ready
    return gradient * ready


def _spare_zeros(ctx: Any) -> None:
    """Prevent torch from materializing zero gradients for outputs that have none."""
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


class DenseLoss(_Unbatched):
    """``scale`` Σ_Ω w (W − value)², with its gradient computed in the same pass."""

    @staticmethod
    def forward(
        dense: Tensor, layout: Tensor, values: Tensor, weights: Tensor | None, scale: float
    ) -> tuple[Tensor, Tensor]:
        """Run the fused pass."""
        return _native.dense_loss_gradient(dense.contiguous(), layout, values, weights, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Save the gradient and what a second derivative needs."""
        dense, layout, values, weights, ctx.scale = inputs
        ctx.mark_non_differentiable(output[1])
        _spare_zeros(ctx)
        ctx.save_for_backward(dense, layout, values, weights, output[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, unused: Tensor | None) -> tuple[Tensor | None, ...]:
        """Scale the gradient of the forward pass, or recompute it if it needs a graph of its own."""
        if gradient is None:
            return (None,) * 5
        dense, layout, values, weights, ready = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return _scaled(ready, gradient).to(dense.dtype), None, None, None, None
        products = gather_observed(dense, layout, values.numel()).to(ready.dtype)
        coefficients = _coefficients(products, layout, values, weights, gradient * ctx.scale).to(dense.dtype)
        return ScatterObserved.apply(coefficients, layout, *dense.shape), None, None, None, None


class DenseLossAlone(_Unbatched):
    """``scale`` Σ_Ω w (W − value)², if no gradient is needed; raises under forward-mode differentiation."""

    @staticmethod
    def forward(
        dense: Tensor, layout: Tensor, values: Tensor, weights: Tensor | None, scale: float
    ) -> Tensor:
        """Compute the loss alone."""
        return _native.dense_loss_forward(dense.contiguous(), layout, values, weights, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save nothing."""


class GatherObserved(_Unbatched):
    """The observed entries of a dense matrix."""

    @staticmethod
    def forward(dense: Tensor, layout: Tensor, nnz: int) -> Tensor:
        """Gather the entries."""
        return _native.gather_observed(dense.contiguous(), layout, nnz)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save the layout and the shape."""
        dense, layout, _ = inputs
        ctx.save_for_backward(layout)
        ctx.shape = dense.shape

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Scatter the gradient into a matrix of zeros."""
        (layout,) = ctx.saved_tensors
        return ScatterObserved.apply(gradient, layout, *ctx.shape), None, None


class ScatterObserved(_Unbatched):
    """A dense matrix with the given entries on Ω and zeros elsewhere."""

    @staticmethod
    def forward(values: Tensor, layout: Tensor, rows: int, columns: int) -> Tensor:
        """Scatter the entries."""
        return _native.scatter_observed(values.contiguous(), layout, rows, columns)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save the layout and the number of entries."""
        values, layout, *_ = inputs
        ctx.save_for_backward(layout)
        ctx.nnz = values.numel()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gather the gradient at the entries."""
        (layout,) = ctx.saved_tensors
        return GatherObserved.apply(gradient, layout, ctx.nnz), None, None, None
