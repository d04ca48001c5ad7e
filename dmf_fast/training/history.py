"""What is measured at the evaluations of a run, and the table of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor

from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations

Row = dict[str, float | int | None]

COMPARED = ("validation_rmse", "test_rmse", "reconstruction_mse")
"""The columns of a `Comparison`."""


@dataclass(frozen=True)
class Comparison:
    """What the states of a run are compared with; None is not measured."""

    validation: Observations | None = None
    test: Observations | None = None
    truth: Tensor | None = None

    def errors(self, loss: Callable[[Observations], Tensor], predictions: Callable[[], Tensor]) -> Row:
        """Return the columns `COMPARED`, given a state's mean loss and how its predictions are formed."""
        errors = (
            _rmse(loss, self.validation),
            _rmse(loss, self.test),
            _reconstruction_mse(predictions, self.truth),
        )
        return dict(zip(COMPARED, errors, strict=True))

    def check_shapes(self, shape: tuple[int, int]) -> None:
        """Raise a `ValueError` that names what cannot be compared with an ``m × n`` matrix."""
        for name in ("validation", "test", "truth"):
            other = getattr(self, name)
            if other is not None and tuple(other.shape) != shape:
                raise ValueError(
                    f"{name} has shape {tuple(other.shape)}, but the factors multiply to shape {shape}."
                )


@dataclass(frozen=True)
class Measures(Comparison):
    """What an evaluation measures of the model."""

    singular_values: int = 0

    @torch.no_grad()
    def row(self, model: DeepMatrixFactorization, step: int, seconds: float, train_loss: float) -> Row:
        """Return the row of the history for a model that has made ``step`` updates.

        Where the train loss is not finite nothing else is measured.
        """
        count = min(self.singular_values, *model.shape)
        row: Row = {"step": step, "seconds": seconds, "train_loss": train_loss}
        row |= dict.fromkeys((*COMPARED, *singular_value_names(count)))
        if math.isfinite(train_loss):
            row |= self.errors(model.loss, lambda: _dense_predictions(model))
            if count:
                row |= zip(singular_value_names(count), model.singular_values(count).tolist(), strict=True)
        return row


def history_table(rows: Sequence[Mapping[str, float | int | None]]) -> pa.Table:
    """Return the rows as a table: ``step`` int64, all other columns float64, null where not measured.

    Columns, of which a run has those that it was asked for:

    * ``step``: updates made so far; or ``time`` of gradient flow.
    * ``seconds``: of training so far.
    * ``train_loss``: the mean, before the update of that step.
    * ``validation_rmse``, ``test_rmse``: root of the weighted mean of the squared residuals.
    * ``reconstruction_mse``: mean squared error over the whole matrix.
    * ``gradient_norm``: root of the sum of the squares of all entries of the gradient.
    * ``parameter_norm``: the same of all entries of all factors.
    * ``effective_rank``, ``nuclear_norm``, ``schatten_norm``: of the product ``W_N ⋯ W_1``, the last with
      ``p = 2/N``; see `dmf_fast.spectrum`.
    * ``balancedness``: see `dmf_fast.chain.balancedness`.
    * ``singular_value_1`` and so on: of the product, the largest first.

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


def singular_value_names(count: int) -> list[str]:
    """Return the columns of the ``count`` largest singular values.

    >>> singular_value_names(2)
    ['singular_value_1', 'singular_value_2']
    """
    return [f"singular_value_{place}" for place in range(1, count + 1)]


def _rmse(loss: Callable[[Observations], Tensor], observations: Observations | None) -> float | None:
    """Return the root of the mean squared residual, None where there is nothing to compare with."""
    if observations is None or observations.total_weight == 0:
        return None
    return loss(observations).double().sqrt().item()


def _reconstruction_mse(predictions: Callable[[], Tensor], truth: Tensor | None) -> float | None:
    """Return the mean squared error over the whole matrix."""
    if truth is None:
        return None
    dense = predictions()
    return (dense - truth.to(dense.device)).square().mean(dtype=torch.float64).item()


def _dense_predictions(model: DeepMatrixFactorization) -> Tensor:
    predictions = model.product() + model.mean
    _, row_bias, column_bias = model.chain_and_biases()
    if row_bias is not None and column_bias is not None:
        predictions = predictions + row_bias[:, None] + column_bias
    return predictions
