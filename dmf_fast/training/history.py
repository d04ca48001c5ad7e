"""What is measured at the evaluations of a run, and the table of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor

from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations

Row = dict[str, float | int | None]


@dataclass(frozen=True)
class Measures:
    """What an evaluation compares the model with; None is not measured."""

    validation: Observations | None = None
    test: Observations | None = None
    truth: Tensor | None = None
    singular_values: int = 0

    @torch.no_grad()
    def row(self, model: DeepMatrixFactorization, step: int, seconds: float, train_loss: float) -> Row:
        """Return the row of the history for a model that has made ``step`` updates.

        Where the train loss is not finite nothing else is measured.
        """
        measured = math.isfinite(train_loss)
        row: Row = {
            "step": step,
            "seconds": seconds,
            "train_loss": train_loss,
            "validation_rmse": _rmse(model, self.validation) if measured else None,
            "test_rmse": _rmse(model, self.test) if measured else None,
            "reconstruction_mse": _reconstruction_mse(model, self.truth) if measured else None,
        }
        count = min(self.singular_values, *model.shape)
        values = model.singular_values(count).tolist() if count and measured else [None] * count
        return row | {f"singular_value_{place}": value for place, value in enumerate(values, start=1)}


def history_table(rows: Sequence[Mapping[str, float | int | None]]) -> pa.Table:
    """Return the rows as a table: ``step`` int64, all other columns float64, null where not measured.

    Columns: ``step`` (updates made so far), ``seconds`` (of training so far), ``train_loss`` (the mean,
    before the update of that step), ``validation_rmse``, ``test_rmse``, ``reconstruction_mse``,
    ``singular_value_1`` and so on.

    >>> history_table([{"step": 0, "train_loss": 2.5, "test_rmse": None}]).to_pylist()
    [{'step': 0, 'train_loss': 2.5, 'test_rmse': None}]
    """
    names = list(rows[0]) if rows else []
    return pa.table(
        {
            name: pa.array([row[name] for row in rows], pa.int64() if name == "step" else pa.float64())
            for name in names
        }
    )


def _rmse(model: DeepMatrixFactorization, observations: Observations | None) -> float | None:
    """Return the root of the mean squared residual, None where there is nothing to compare with."""
    return model.loss(observations).double().sqrt().item() if observations else None


def _reconstruction_mse(model: DeepMatrixFactorization, truth: Tensor | None) -> float | None:
    """Return the mean squared error over the whole matrix."""
    if truth is None:
        return None
    predictions = model.product() + model.mean
    if model.row_bias is not None and model.column_bias is not None:
        predictions = predictions + model.row_bias[:, None] + model.column_bias
    return (predictions - truth.to(predictions.device)).square().mean(dtype=torch.float64).item()
