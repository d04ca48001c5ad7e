"""The model in coordinates in which rows and columns with many entries do not outweigh the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_fast import chain
from dmf_fast.nn import DeepMatrixFactorization, ParameterScales
from dmf_fast.sharding import local_part, placed_as


class ScaledFactorization(DeepMatrixFactorization):
    """``W = c · diag(r) · W_N ⋯ W_1 · diag(s)``: the parameters are the ``W_j``, the scales are fixed.

    Gradient descent from a small start favors a low trace norm of the product of the parameters. In these
    coordinates that is the trace norm of ``diag(r)⁻¹ · W · diag(s)⁻¹``, weighted as in Salakhutdinov &
    Srebro, "Collaborative Filtering in a Non-Uniform World: Learning with the Weighted Trace Norm" (NeurIPS
    2010), where ``r`` and ``s`` fall with the number of entries, see `dmf_fast.completion.degree_scales`.
    Biases, initially zero, are scaled in the same way, and halved: otherwise they, not the factors, would
    limit the step length of gradient descent.

    Args:
        factors: ``[W_1, …, W_N]``, which are copied; `DTensor`s if processes share the rows.
        row_scale: ``r``, ``(m,)``, above 0, of the rows of this process.
        column_scale: ``s``, ``(n,)``, above 0.
        value_scale: ``c``, the size of the values around their mean, above 0.
        bias_scales: of row and column biases, in addition to ``c·r`` and ``c·s``; None for no biases.

    Raises:
        TypeError, ValueError: the factors do not form a chain, or a scale is not above 0.

    Example:
        >>> scales = torch.tensor([2.0, 1.0]), torch.tensor([1.0, 0.5, 1.0])
        >>> model = ScaledFactorization([torch.eye(2, 3), torch.eye(2)], *scales, 3.0)
        >>> model.product().tolist()
        [[6.0, 0.0, 0.0], [0.0, 1.5, 0.0]]

    """

    BIAS_SCALE = 0.5

    row_scale: Tensor
    column_scale: Tensor
    value_scale: Tensor
    bias_scales: tuple[float, float]

    def __init__(
        self,
        factors: Sequence[Tensor],
        row_scale: Tensor,
        column_scale: Tensor,
        value_scale: float,
        bias_scales: tuple[float, float] | None = (BIAS_SCALE, BIAS_SCALE),
    ) -> None:
        torch.nn.Module.__init__(self)
        chain.dims_of(factors)
        self._hold([factor.detach().clone() for factor in factors], bias=bias_scales is not None)
        self.bias_scales = bias_scales or (self.BIAS_SCALE, self.BIAS_SCALE)
        for name, scale in (("row_scale", row_scale), ("column_scale", column_scale)):
            if not bool((scale > 0).all()):
                raise ValueError(f"`{name}` must be above 0, got {scale.min().item()}")
        if not value_scale > 0:
            raise ValueError(f"`value_scale` must be above 0, got {value_scale}")
        first_row, first_column = self.factors[0].detach()[0], self.factors[-1].detach()[:, 0]
        self.register_buffer("row_scale", placed_as(row_scale.to(self.mean), first_column))
        self.register_buffer("column_scale", placed_as(column_scale.to(self.mean), first_row))
        self.register_buffer("value_scale", self.mean.new_tensor(value_scale))

    def parameter_scales(self) -> ParameterScales:
        """Return the scales of the first and last factor and of the biases, for the rows of this process."""
        row_scale, column_scale = local_part(self.row_scale), local_part(self.column_scale)
        rows, columns = self.value_scale * row_scale, self.value_scale * column_scale
        row_bias, column_bias = self.bias_scales
        return ParameterScales(rows, column_scale, row_bias * rows, column_bias * columns)

    def chain_and_biases(self) -> tuple[list[Tensor], Tensor | None, Tensor | None]:
        """Return the factors ``[W_1, …, W_N]`` and biases of ``W`` itself, with the scales multiplied in.

        Their shapes are those of the parameters. If processes share the rows, they are the parts of this one.
        """
        factors, scales = [local_part(factor) for factor in self.factors], self.parameter_scales()
        factors[-1] = factors[-1] * scales.rows[:, None]
        factors[0] = factors[0] * scales.columns
        if self.row_bias is None or self.column_bias is None:
            return factors, None, None
        row_bias, column_bias = local_part(self.row_bias), local_part(self.column_bias)
        return factors, row_bias * scales.row_bias, column_bias * scales.column_bias

    @torch.no_grad()
    def plain(self) -> DeepMatrixFactorization:
        """Return a copy of the same matrix without scales, to be saved and to predict from."""
        factors, row_bias, column_bias = self.chain_and_biases()
        copies = [placed_as(factor.clone(), own) for factor, own in zip(factors, self.factors, strict=True)]
        model = DeepMatrixFactorization.of_factors(copies, bias=row_bias is not None)
        if row_bias is not None and column_bias is not None:
            for own, bias in zip(model.biases, (row_bias, column_bias), strict=True):
                local_part(own).copy_(bias)
        model.mean.copy_(self.mean)
        return model
