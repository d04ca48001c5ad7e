"""Curvature of the loss along single parameters, estimated from the numbers of entries."""

from __future__ import annotations

from torch import Tensor

from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.ops.functional import Reduction
from dmf_fast.ops.statistics import degrees


def loss_curvature(
    model: DeepMatrixFactorization, train: Observations, reduction: Reduction = "mean"
) -> tuple[list[Tensor | None], list[Tensor]]:
    """Return the ``curvature`` argument of `PreconditionedLBFGS` for the factors and for the biases.

    In the coordinates of the model, ``W = diag(r) · W_N ⋯ W_1 · diag(s)``, it is ``2 r_i² d_i / n`` for row i
    of the last factor, ``s_j² d_j / n`` for column j of the first one, and ``2 (its scale)² d / n`` for a
    bias. With ``"sum"``, those with a factor 2 are n times as large. Here n is the number of entries and d
    that of the row or column, or the sums of their weights. For factors, half their width is added to d,
    since the parameters of a row with few entries are strongly coupled, so that a diagonal alone would allow
    steps that are too long.

    Args:
        model: in any coordinates.
        train: the training entries.
        reduction: of the loss, ``"mean"`` or ``"sum"``.

    Returns:
        The curvatures of the factors: ``(n,)`` for the first one and ``(m,)`` for the last one, None for
        others and at depth 1; and those of the biases, ``(m,)`` and ``(n,)``, empty if there are none. All
        are of the dtype of the model.

    Example:
        >>> train = Observations([0, 0, 1], [0, 1, 0], [1.0, 1.0, 1.0])
        >>> model = DeepMatrixFactorization((2, 2), 2, seed=0)
        >>> loss_curvature(model, train, "sum")[0][1]
        tensor([6., 4.])

    """
    rows, columns = degrees(train)
    total = train.total_weight or 1.0
    scales = model.parameter_scales()
    factor = 2.0 if reduction == "sum" else 2.0 / total
    of_biases = [factor * rows, factor * columns]
    of_rows = factor * (rows + model.factors[-1].shape[1] / 2)
    of_columns = (columns + model.factors[0].shape[0] / 2) / total
    if scales is not None:
        of_rows, of_columns = (
            of_rows * scales.rows.double().square(),
            of_columns * scales.columns.double().square(),
        )
        of_biases = [
            own * scale.double().square()
            for own, scale in zip(of_biases, (scales.row_bias, scales.column_bias), strict=True)
        ]
    dtype = model.mean.dtype
    curvature: list[Tensor | None] = [None] * len(model.factors)
    if len(curvature) > 1:
        curvature[0], curvature[-1] = of_columns.to(dtype), of_rows.to(dtype)
    return curvature, [own.to(dtype) for own in of_biases[: len(model.biases)]]
