"""The state of a fitted estimator: immutable, so that a failed update leaves it unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from dmf_fast.data import IdMap
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.serving import Predictor, SeenColumns, TwoFactors, collapse


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A trained model, its ids, and its training ratings.

    Attributes:
        predictor: the model, on the CPU.
        row_ids: the ids of its rows.
        column_ids: the ids of its columns.
        noise_variance: variance of a rating around its prediction, above 0.
        observed: the ratings; None if they were not kept.
        seen_columns: the positions of the ratings, if only these are known; else None.

    """

    predictor: Predictor
    row_ids: IdMap
    column_ids: IdMap
    noise_variance: float
    observed: Observations | None = None
    seen_columns: SeenColumns | None = None

    @property
    def model(self) -> DeepMatrixFactorization:
        """The model."""
        return self.predictor.model

    @property
    def ids(self) -> tuple[IdMap, IdMap]:
        """The ids of rows and columns."""
        return self.row_ids, self.column_ids

    @cached_property
    def two_factors(self) -> TwoFactors:
        """The model as two factors, computed on first use."""
        return collapse(self.model)

    @cached_property
    def seen(self) -> SeenColumns | None:
        """The rated columns of each row, or None if unknown; sorted on first use."""
        return self.seen_columns if self.observed is None else SeenColumns.of(self.observed)

    def is_rated(self, axis: int) -> Tensor:
        """Return which rows (axis 0) or columns (axis 1) have ratings; all if that is unknown."""
        count = self.model.shape[axis]
        if self.observed is not None:
            return torch.bincount(self.observed.coordinates()[axis], minlength=count) > 0
        if self.seen_columns is None or not len(self.seen_columns.columns):
            return torch.ones(count, dtype=torch.bool, device="cpu")
        if axis == 0:
            return self.seen_columns.offsets.diff() > 0
        return torch.bincount(self.seen_columns.columns, minlength=count) > 0
