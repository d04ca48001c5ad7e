"""How steeply the loss curves in a single number of the parameters, by the numbers of entries."""

from __future__ import annotations

from torch import Tensor

from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.ops.functional import Reduction
from dmf_fast.ops.statistics import degrees


def loss_curvature(
    model: DeepMatrixFactorization, train: Observations, reduction: Reduction = "mean"
) -> tuple[list[Tensor | None], list[Tensor]]:
    """Return the ``curvature`` of `PreconditionedLBFGS`: of the factors, and of the biases.

    In the coordinates of the model, ``W = diag(r) · W_N ⋯ W_1 · diag(s)``, row i of the last factor has
    ``2 r_i² d_i / n`` and column j of the first ``s_j² d_j / n``, where n is the number of entries; a bias
    has ``2 (its scale)² d / n``. With ``"sum"`` those with a 2 are n times as large. Here d is the number of
    entries of the row or column, and for factors half their width more: the numbers of a row with few entries
    depend on one another, and a diagonal alone would promise too long steps.

    Args:
        model: in any coordinates.
        train: what its loss is of.
        reduction: of the loss.

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
