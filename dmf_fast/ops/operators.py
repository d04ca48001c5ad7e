"""The raw operators ``torch.ops.dmf_fast.*``: loads their library and registers their output shapes.

They have no gradients, which :mod:`dmf_fast.ops.autograd` adds. ``layout`` is the flat uint8 buffer of
:meth:`Observations.layout`. The two sides of the split are ``a`` of shape ``(m, h)`` and ``b_transposed`` of
shape ``(n, h)``, both contiguous. "Tile order" is the order of the entries in the layout, "caller's order"
the order in which they were given. The accumulator dtype is float64 for float64 and float32 for float32,
bfloat16 and float16.

``observed_product_forward(a, b_transposed, layout, nnz)``
    ``(nnz,)`` products in the caller's order and the accumulator dtype.
``observed_product_backward(coefficients, a, b_transposed, layout)``
    ``G @ b_transposed`` and ``G.T @ a`` for the sparse ``G`` whose entries are ``coefficients``.
``completion_loss_forward(a, b_transposed, layout, values, weights, scale)``
    ``scale`` Σ w (a·b − value)², summed in float64 and returned in the accumulator dtype; ``values`` and
    ``weights`` are in tile order.
``completion_loss_gradients(a, b_transposed, layout, values, weights, scale)``
    The same loss, with its gradients computed in the same sweep.
``tile_loss_gradients(a, b_transposed, layout, values, weights, scale, precision)``
    Like ``completion_loss_gradients``, on the tensor cores of a GPU, for layouts of at least 2 % density and
    ``h`` of at most 128; ``precision`` is ``"tf32"`` or ``"tf32x3"``. CUDA only.
``dense_loss_forward(dense, layout, values, weights, scale)``
    ``scale`` Σ w (dense − value)² over the observed entries of a dense ``(m, n)`` matrix, likewise.
``dense_loss_gradient(dense, layout, values, weights, scale)``
    The same loss and its gradient: ``(m, n)``, 0 at unobserved entries.
``caller_order(values, layout)``
    ``values`` in the caller's order, given those in tile order.
``build_layout(rows, columns, row_count, column_count)``
    The layout of distinct, checked entries on a GPU; on the CPU, `dmf_fast.observations.layout` builds it.
``gather_observed(dense, layout, nnz)`` and ``scatter_observed(values, layout, rows, columns)``
    The observed entries of a dense matrix in the caller's order, and the inverse (0 elsewhere).
``top_columns(a, b, column_bias, rows, seen_offsets, seen_columns, k)``
    For each of ``rows`` of ``a``, ``(m, h)``, the ``k`` columns of ``b``, ``(h, n)``, with the highest scores
    ``a_i · b_j + column_bias_j``, best first, and their scores; ties go to the lower column. Excluded are the
    columns seen in row i, ``seen_columns[seen_offsets[i]:seen_offsets[i + 1]]``, int32 and increasing, and
    scores that are NaN or minus infinity. If fewer than ``k`` columns are left, the results are padded with
    -1 and minus infinity. ``k`` is at most 2²⁴. float32 and float64; CPU only.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from dmf_fast import _native, cuda

torch.ops.load_library(Path(__file__).parents[1] / "libdmf_fast_cpu.so")
cuda.missing_reason()  # loads the CUDA kernels if they are available

if _native.refused_instruction_set():
    raise ImportError(
        f"DMF_FAST_INSTRUCTION_SET is {_native.refused_instruction_set()!r}, which is not available here; "
        f"unset it, or set it to one of: {', '.join(_native.available_instruction_sets())}"
    )


def accumulator_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of products and gradients of factors of ``dtype``."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@torch.library.register_fake("dmf_fast::observed_product_forward")
def _(a: Tensor, b_transposed: Tensor, layout: Tensor, nnz: int) -> Tensor:
    return a.new_empty((nnz,), dtype=accumulator_dtype(a.dtype))


@torch.library.register_fake("dmf_fast::observed_product_backward")
def _(coefficients: Tensor, a: Tensor, b_transposed: Tensor, layout: Tensor) -> tuple[Tensor, Tensor]:
    return _fake_gradients(a, b_transposed)


@torch.library.register_fake("dmf_fast::completion_loss_forward")
def _(
    a: Tensor, b_transposed: Tensor, layout: Tensor, values: Tensor, weights: Tensor | None, scale: float
) -> Tensor:
    return _fake_loss(a)


@torch.library.register_fake("dmf_fast::completion_loss_gradients")
def _(
    a: Tensor, b_transposed: Tensor, layout: Tensor, values: Tensor, weights: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    return _fake_loss(a), *_fake_gradients(a, b_transposed)


@torch.library.register_fake("dmf_fast::tile_loss_gradients")
def _(
    a: Tensor,
    b_transposed: Tensor,
    layout: Tensor,
    values: Tensor,
    weights: Tensor | None,
    scale: float,
    precision: str,
) -> tuple[Tensor, Tensor, Tensor]:
    return _fake_loss(a), *_fake_gradients(a, b_transposed)


@torch.library.register_fake("dmf_fast::build_layout")
def _(rows: Tensor, columns: Tensor, row_count: int, column_count: int) -> Tensor:
    facts = _native.describe_device_layout(row_count, column_count, rows.numel())
    return rows.new_empty((facts["bytes"],), dtype=torch.uint8)


@torch.library.register_fake("dmf_fast::dense_loss_forward")
def _(dense: Tensor, layout: Tensor, values: Tensor, weights: Tensor | None, scale: float) -> Tensor:
    return _fake_loss(dense)


@torch.library.register_fake("dmf_fast::dense_loss_gradient")
def _(
    dense: Tensor, layout: Tensor, values: Tensor, weights: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    return _fake_loss(dense), dense.new_empty(dense.shape, dtype=accumulator_dtype(dense.dtype))


@torch.library.register_fake("dmf_fast::caller_order")
def _(values: Tensor, layout: Tensor) -> Tensor:
    return torch.empty_like(values)


@torch.library.register_fake("dmf_fast::gather_observed")
def _(dense: Tensor, layout: Tensor, nnz: int) -> Tensor:
    return dense.new_empty((nnz,))


@torch.library.register_fake("dmf_fast::scatter_observed")
def _(values: Tensor, layout: Tensor, rows: int, columns: int) -> Tensor:
    return values.new_empty((rows, columns))


@torch.library.register_fake("dmf_fast::top_columns")
def _(
    a: Tensor,
    b: Tensor,
    column_bias: Tensor | None,
    rows: Tensor,
    seen_offsets: Tensor | None,
    seen_columns: Tensor | None,
    k: int,
) -> tuple[Tensor, Tensor]:
    shape = (rows.shape[0], k)
    return rows.new_empty(shape), a.new_empty(shape)


def _fake_loss(like: Tensor) -> Tensor:
    return like.new_empty((), dtype=accumulator_dtype(like.dtype))


def _fake_gradients(a: Tensor, b_transposed: Tensor) -> tuple[Tensor, Tensor]:
    dtype = accumulator_dtype(a.dtype)
    return a.new_empty(a.shape, dtype=dtype), b_transposed.new_empty(b_transposed.shape, dtype=dtype)
