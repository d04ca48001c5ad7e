"""The coordinates in which a rating model is trained: mean, biases and scales of its training entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from dmf_fast.completion.options import CompletionOptions
from dmf_fast.completion.scaled_model import ScaledFactorization
from dmf_fast.completion.scales import degree_scales
from dmf_fast.evaluation.baselines import Biases, Shrinkage
from dmf_fast.observations import Observations
from dmf_fast.ops.statistics import mean_value, spread
from dmf_fast.sharding import WHOLE, RowSharding, local_part

# The shrinkage at which biases have the default scale of a ScaledFactorization.
_USUAL = Shrinkage()


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The common basis of all models of the same training entries, whatever their factors.

    Attributes:
        mean: added to every prediction; 0 if the job does not center.
        spread: ``c``, the spread of the values around the mean.
        row_scale: ``r``, ``(m,)``, float64, of the rows of this process.
        column_scale: ``s``, ``(n,)``, float64.
        biases: jointly fitted, in units of the values; None if the job has none.
        dtype: of the model.
        shape: ``(m, n)``, rows and columns of the matrix.
        sharding: of its rows.

    """

    mean: float
    spread: float
    row_scale: Tensor
    column_scale: Tensor
    biases: Biases | None
    dtype: torch.dtype
    shape: tuple[int, int]
    sharding: RowSharding = WHOLE

    @classmethod
    def of(cls, train: Observations, options: CompletionOptions, biases: Biases | None) -> Coordinates:
        """Return the coordinates of ``train``, given its biases."""
        mean = mean_value(train) if options.center else 0.0
        rows, columns = degree_scales(train, options.degree_exponent)
        scale = spread(train, mean)
        return cls(mean, scale, rows, columns, biases, train.dtype, train.shape, train.sharding)

    def model(
        self, factors: Sequence[Tensor], learned: tuple[Tensor, Tensor] | None = None
    ) -> ScaledFactorization:
        """Return a model with copies of these factors, the last of which holds the rows of this process.

        Its biases are the ``learned`` ones, in the parameters of such a model, or otherwise the fitted ones.
        A bias with a larger shrinkage gets a smaller scale, so that the common weight decay pulls on it
        harder.
        """
        *shared, last = (factor.to(self.dtype) for factor in factors)
        model = ScaledFactorization(
            [*map(self.sharding.replicated, shared), self.sharding.sharded(last)],
            self.row_scale,
            self.column_scale,
            self.spread,
            self._bias_scales(),
        )
        model.mean.fill_(self.mean)
        if self.biases is not None:
            self._set_biases(model, self.biases, learned)
        return model

    def _bias_scales(self) -> tuple[float, float] | None:
        if self.biases is None:
            return None
        shrinkage, scale = self.biases.shrinkage, ScaledFactorization.BIAS_SCALE
        rows, columns = _USUAL.rows / shrinkage.rows, _USUAL.columns / shrinkage.columns
        return scale * rows**0.5, scale * columns**0.5

    def without_factors(self, depth: int = 2) -> ScaledFactorization:
        """Return the model that predicts only mean and biases: factors of width 1, all zero."""
        dims = (self.shape[1], *[1] * (depth - 1), len(self.row_scale))
        return self.model([self.row_scale.new_zeros(out, into) for into, out in pairwise(dims)])

    @torch.no_grad()
    def _set_biases(
        self, model: ScaledFactorization, biases: Biases, learned: tuple[Tensor, Tensor] | None
    ) -> None:
        scales = model.parameter_scales()
        # If the job does not center, the row biases hold the mean.
        fitted = (biases.row_biases + (biases.mean - self.mean), biases.column_biases)
        for place, (bias, scale) in enumerate(
            zip(model.biases, (scales.row_bias, scales.column_bias), strict=True)
        ):
            own = local_part(bias)
            if learned is None:
                own.copy_(torch.from_numpy(fitted[place]).to(own.device) / scale.double())
            else:
                own.copy_(learned[place])
