"""The model: a deep linear chain with optional biases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

import torch
from torch import Tensor

from dmf_fast import chain
from dmf_fast.checks import whole_number
from dmf_fast.initialization import initialize
from dmf_fast.observations import Observations
from dmf_fast.ops import functional
from dmf_fast.ops.functional import Reduction
from dmf_fast.ops.sharded import chains_of_parts
from dmf_fast.sharding import local_part

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# `predict` gathers this many numbers of each side at a time, which stay in the cache.
_CHUNK_NUMBERS = 1 << 17


@dataclass(frozen=True)
class ParameterScales:
    """Scales of a model's parameters: ``W = diag(rows) · W_N ⋯ W_1 · diag(columns)``, and biases likewise.

    Attributes:
        rows: ``(m,)``, of the rows of ``W_N``.
        columns: ``(n,)``, of the columns of ``W_1``.
        row_bias: ``(m,)``, of the row bias.
        column_bias: ``(n,)``, of the column bias.

    """

    rows: Tensor
    columns: Tensor
    row_bias: Tensor
    column_bias: Tensor


class DeepMatrixFactorization(torch.nn.Module):
    """A deep matrix factorization: an ``m × n`` matrix ``W_N ⋯ W_1`` with optional biases.

    Arora, Cohen, Hu & Luo, "Implicit Regularization in Deep Matrix Factorization" (NeurIPS 2019). The
    prediction at ``(i, j)`` is ``(W_N ⋯ W_1)_ij + mean``, plus ``row_bias_i + column_bias_j`` if
    ``bias=True``. `forward` and `loss` compute only the observed entries, unless forming the matrix is faster
    (`dmf_fast.explain`).

    Args:
        shape: ``(m, n)``, rows and columns of the matrix.
        depth: number of factors ``N``, at least 1.
        hidden: width of every hidden layer, or the ``N - 1`` widths ``d_1, …, d_{N-1}``;
            None for ``min(m, n)``, as in the paper.
        init_scale: scale of the initial product, see `dmf_fast.initialization.initialize`.
        initialization: ``"gaussian"``, ``"balanced"``, ``"orthogonal"``, ``"identity"`` or ``"uniform"``.
        bias: whether rows and columns have biases, initially zero.
        seed: seed of the initialization; None uses torch's global generator.
        dtype: float64, float32, bfloat16 or float16.
        device: device of the parameters; None for the CPU, whatever torch's default device is.

    Attributes:
        factors: ``[W_1, …, W_N]``, ``W_j`` of shape ``(d_j, d_{j-1})``.
        row_bias: ``(m,)``, or None.
        column_bias: ``(n,)``, or None.
        mean: 0-dim buffer, initially 0; ``model.mean.fill_(...)`` sets it to the mean of the values.

    Raises:
        TypeError: ``shape``, ``depth`` or ``hidden`` is not made of integers, ``init_scale`` is not a number,
            or ``dtype`` is not one of the four.
        ValueError: a size is below 1, ``hidden`` does not have ``N - 1`` widths, ``init_scale`` is not
            positive and finite, or the initialization is unknown.

    Example:
        >>> model = DeepMatrixFactorization((4, 3), depth=2, seed=0)
        >>> model.product().shape
        torch.Size([4, 3])

    """

    mean: Tensor

    def __init__(
        self,
        shape: tuple[int, int],
        depth: int,
        hidden: int | Sequence[int] | None = None,
        init_scale: float = 1e-3,
        initialization: str = "gaussian",
        *,
        bias: bool = False,
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if dtype not in DTYPES:
            raise TypeError(f"`dtype` must be one of {', '.join(map(str, DTYPES))}, got {dtype}")
        dims = _checked_dims(shape, depth, hidden)
        with torch.inference_mode(False):  # so that a model made in inference mode can be trained
            factors = initialize(initialization, dims, init_scale, seed=seed, dtype=dtype, device=device)
            self._hold(factors, bias=bias)

    @classmethod
    def of_factors(cls, factors: Sequence[Tensor], *, bias: bool = False) -> DeepMatrixFactorization:
        """Return a model whose parameters share the memory of ``factors``.

        Args:
            factors: ``[W_1, …, W_N]``, ``W_j`` of shape ``(d_j, d_{j-1})``, of one dtype and device; or
                `DTensor`s, see `dmf_fast.distributed.initial_factors`.
            bias: whether rows and columns have biases, initially zero.

        Raises:
            TypeError: a factor is not a dense tensor of a supported dtype, or the dtypes differ.
            ValueError: the shapes do not form a chain, or the devices differ.

        Example:
            >>> DeepMatrixFactorization.of_factors([torch.eye(2), torch.ones(3, 2)]).shape
            (3, 2)

        """
        chain.dims_of(factors)
        _check_alike(factors)
        model = cls.__new__(cls)
        torch.nn.Module.__init__(model)
        model._hold(factors, bias=bias)
        return model

    def _hold(self, factors: Sequence[Tensor], *, bias: bool) -> None:
        """Make parameters that share the memory of ``factors``, with biases and a mean of zero."""
        self.factors = torch.nn.ParameterList([torch.nn.Parameter(factor.detach()) for factor in factors])
        # A column of a DTensor that is sharded by rows, or a row of one sharded by columns, is sharded alike.
        rows, columns = factors[-1].detach()[:, 0], factors[0].detach()[0]
        self.row_bias = torch.nn.Parameter(torch.zeros_like(rows).contiguous()) if bias else None
        self.column_bias = torch.nn.Parameter(torch.zeros_like(columns).contiguous()) if bias else None
        self.register_buffer("mean", local_part(factors[0].detach()).new_zeros(()))

    @property
    def parameter_list(self) -> list[Tensor]:
        """The factors, ``(d_j, d_{j-1})`` each, followed by the biases, ``(m,)`` and ``(n,)``, if any."""
        return [*self.factors, *self.biases]

    @property
    def biases(self) -> list[Tensor]:
        """``[row_bias, column_bias]``, of shapes ``(m,)`` and ``(n,)``, or an empty list."""
        return [bias for bias in (self.row_bias, self.column_bias) if bias is not None]

    @property
    def dims(self) -> tuple[int, ...]:
        """``(d_0, …, d_N)``: columns, hidden widths, rows."""
        return chain.dims_of(list(self.factors))

    @property
    def shape(self) -> tuple[int, int]:
        """``(m, n)``, rows and columns of the matrix."""
        return (self.factors[-1].shape[0], self.factors[0].shape[1])

    def chain_and_biases(self) -> tuple[list[Tensor], Tensor | None, Tensor | None]:
        """Return the factors whose product is ``W``, and the row and the column bias, which may be None.

        Here they are the parameters themselves, ``W_j`` of shape ``(d_j, d_{j-1})`` and biases ``(m,)`` and
        ``(n,)``; a model in other coordinates computes them.
        """
        return list(self.factors), self.row_bias, self.column_bias

    def parameter_scales(self) -> ParameterScales | None:
        """Return the scales that turn the parameters into ``W`` and its biases; None if there are none."""
        return None

    def forward(self, observations: Observations) -> Tensor:
        """Return the predictions at the observed entries, ``(nnz,)``, in the order in which they were given.

        They are float64 for float64 factors and float32 otherwise; differentiable. Raises what
        `dmf_fast.observed_product` raises.
        """
        factors, row_bias, column_bias = self.chain_and_biases()
        return functional.observed_product(
            factors, observations, row_bias=self.row_offset(row_bias), column_bias=column_bias
        )

    def by_part(
        self, observations: Observations
    ) -> list[tuple[Observations, list[Tensor], Tensor | None, Tensor | None]]:
        """Return the parts of ``observations``, each with the factors and biases of its rows; differentiable.

        These are arguments of `dmf_fast.completion_loss` and `dmf_fast.observed_product`: factors of shape
        ``(d_j, d_{j-1})``, with the rows of the part in the last one, and biases of shapes ``(rows,)`` and
        ``(n,)``. The row bias includes the mean.
        """
        factors, row_bias, column_bias = self.chain_and_biases()
        return chains_of_parts(factors, observations, self.row_offset(row_bias), column_bias)

    def loss(self, observations: Observations, reduction: Reduction = "mean") -> Tensor:
        """Return the weighted sum or mean of the squared residuals of the predictions, a scalar.

        It is float64 for float64 factors and float32 otherwise; differentiable. Raises what
        `dmf_fast.completion_loss` raises.
        """
        factors, row_bias, column_bias = self.chain_and_biases()
        return functional.completion_loss(
            factors, observations, reduction, row_bias=self.row_offset(row_bias), column_bias=column_bias
        )

    def product(self) -> Tensor:
        """Return the dense product ``W_N ⋯ W_1``, ``(m, n)``, without mean and biases; differentiable."""
        return chain.chain_product(self.chain_and_biases()[0])

    @torch.no_grad()
    def predict(self, rows: Any, columns: Any) -> Tensor:
        """Return the predictions at pairs of indices, without gradients.

        The ``m × n`` matrix is never formed.

        Args:
            rows: ``(k,)`` integers from 0 to m-1: a tensor, or anything that `torch.as_tensor` accepts.
            columns: ``(k,)`` integers from 0 to n-1.

        Returns:
            ``(k,)``, float64 for float64 factors and float32 otherwise.

        Raises:
            TypeError: the indices are not integers.
            ValueError: the indices are not one-dimensional or differ in length.
            IndexError: an index lies outside the matrix.

        Example:
            >>> model = DeepMatrixFactorization((4, 3), 2, init_scale=4.0, initialization="identity")
            >>> model.predict([1, 1], [1, 2])
            tensor([4., 0.])

        """
        rows = _checked_indices("rows", rows, self.shape[0], self.mean.device)
        columns = _checked_indices("columns", columns, self.shape[1], self.mean.device)
        if rows.shape != columns.shape:
            raise ValueError(
                f"`rows` and `columns` must have the same length, got {len(rows)} and {len(columns)}"
            )
        dtype = torch.float64 if self.mean.dtype == torch.float64 else torch.float32
        factors, row_bias, column_bias = self.chain_and_biases()
        predictions = self._product_at(factors, rows, columns, dtype) + self.mean.to(dtype)
        if row_bias is not None and column_bias is not None:
            predictions += row_bias[rows].to(dtype) + column_bias[columns].to(dtype)
        return predictions

    def singular_values(self, k: int | None = None) -> Tensor:
        """Return the ``k`` largest singular values of the product, all ``min(m, n)`` by default.

        They are exact, ``(k,)``, float64, in descending order and without gradients; see
        `dmf_fast.chain.singular_values`. Raises a `ValueError` if ``k`` is not from 1 to ``min(m, n)``.

        Example:
            >>> model = DeepMatrixFactorization((4, 3), 2, init_scale=2.0, initialization="identity")
            >>> [round(value, 6) for value in model.singular_values(2).tolist()]
            [2.0, 2.0]

        """
        return chain.singular_values(self.chain_and_biases()[0], k)

    def balancedness(self) -> Tensor:
        """Return ``max_j ‖W_{j+1}ᵀ W_{j+1} − W_j W_jᵀ‖_F``, a float64 scalar; 0 at depth 1.

        Gradient flow conserves each of these matrices, see `dmf_fast.chain.balancedness`.
        """
        return chain.balancedness(list(self.factors))

    def extra_repr(self) -> str:
        """Return the sizes, for ``repr``."""
        bias = self.row_bias is not None
        return f"shape={self.shape}, depth={len(self.factors)}, hidden={self.dims[1:-1]}, bias={bias}"

    def row_offset(self, row_bias: Tensor | None) -> Tensor | None:
        """Return the mean plus the bias of each row, ``(m,)``; None if that is known to be zero.

        Args:
            row_bias: ``(m,)``, or None.

        Raises:
            RuntimeError: ``row_bias`` is on another device than the model.

        """
        if row_bias is not None:
            return local_part(row_bias) + self.mean
        return None if self._has_no_mean() else self.mean.expand(len(local_part(self.factors[-1])))

    def _has_no_mean(self) -> bool:
        """Return whether the mean is known to be zero.

        It is not asked on a GPU, which would have to synchronize, nor while a graph is compiled, which would
        keep the answer after the mean has changed, nor for a mean that needs a gradient.
        """
        mean = self.mean
        if mean.device.type != "cpu" or mean.requires_grad or torch.compiler.is_compiling():
            return False
        return not (torch._C._functorch.is_functorch_wrapped_tensor(mean) or mean.item())

    def _product_at(self, factors: list[Tensor], rows: Tensor, columns: Tensor, dtype: torch.dtype) -> Tensor:
        split = chain.narrowest_split(self.dims)
        if split is None:
            entries: Tensor = factors[0][rows, columns]
            return entries.to(dtype)
        # Only the requested rows and columns are multiplied through the chain.
        distinct_rows, row_places = torch.unique(rows, return_inverse=True)
        distinct_columns, column_places = torch.unique(columns, return_inverse=True)
        left = factors[-1][distinct_rows]
        for factor in reversed(factors[split:-1]):
            left = left @ factor
        right = factors[0][:, distinct_columns].T
        for factor in factors[1:split]:
            right = right @ factor.T
        predictions = torch.empty(len(rows), dtype=dtype, device=rows.device)
        length = max(1, _CHUNK_NUMBERS // left.shape[1])
        for start in range(0, len(rows), length):
            part = slice(start, start + length)
            pairs = left[row_places[part]].to(dtype) * right[column_places[part]].to(dtype)
            predictions[part] = pairs.sum(1)
        return predictions


def _checked_dims(shape: tuple[int, int], depth: int, hidden: int | Sequence[int] | None) -> tuple[int, ...]:
    try:
        rows, columns = (index(size) for size in shape)
        depth = index(depth)
        if hidden is None:
            hidden = min(rows, columns)
        if not isinstance(hidden, Sequence):
            hidden = [index(hidden)] * (depth - 1)
        hidden = [index(width) for width in hidden]
    except (TypeError, ValueError):
        raise TypeError(
            "`shape` must be (rows, columns), `depth` an integer and `hidden` an integer or a sequence of "
            f"them, got shape={shape!r}, depth={depth!r}, hidden={hidden!r}"
        ) from None
    whole_number("depth", depth, least=1)
    if len(hidden) != depth - 1:
        raise ValueError(
            f"`hidden` must give {depth - 1} widths for depth {depth}, got {len(hidden)}: {hidden}"
        )
    dims = (columns, *hidden, rows)
    if min(dims) < 1:
        raise ValueError(
            f"`shape` and `hidden` must be at least 1, got shape=({rows}, {columns}), hidden={hidden}"
        )
    return dims


def _check_alike(factors: Sequence[Tensor]) -> None:
    for place, factor in enumerate(factors):
        if factor.dtype not in DTYPES:
            raise TypeError(
                f"the dtype of `factors[{place}]` must be one of {', '.join(map(str, DTYPES))}, got "
                f"{factor.dtype}; use factors[{place}].to(torch.float32)"
            )
        for what in ("dtype", "device"):
            own, first = getattr(factor, what), getattr(factors[0], what)
            if own != first:
                raise (TypeError if what == "dtype" else ValueError)(
                    f"`factors[{place}]` must have the {what} of `factors[0]`, {first}, got {own}; use "
                    f"factors[{place}].to(factors[0])"
                )


def _checked_indices(name: str, given: Any, size: int, device: torch.device) -> Tensor:
    indices = torch.as_tensor(given, device=device)
    if indices.numel() == 0:
        indices = indices.long()  # an empty list becomes a floating-point tensor
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise TypeError(f"`{name}` must be integers, got {indices.dtype}")
    if indices.dim() != 1:
        raise ValueError(f"`{name}` must be one-dimensional, got shape {tuple(indices.shape)}")
    indices = indices.long()
    outside = (indices < 0) | (indices >= size)
    if outside.any():
        place = int(outside.int().argmax())
        raise IndexError(f"`{name}[{place}]` must be from 0 to {size - 1}, got {int(indices[place])}")
    return indices
