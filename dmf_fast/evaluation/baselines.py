"""Baselines: the mean rating, and the mean plus a bias for each row and column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Protocol

import numpy as np
import torch
from torch import Tensor

from dmf_fast.evaluation.errors import RatingErrors
from dmf_fast.evaluation.held_out import HeldOut
from dmf_fast.evaluation.numbers import Floats, Integers
from dmf_fast.observations import Observations
from dmf_fast.ops.statistics import degrees, mean_value, value_range
from dmf_fast.options import Option, Options
from dmf_fast.threads import one_thread

_TOLERANCE, _ROUGHLY = 1e-8, 1e-3  # of the residual, relative
_MOST_STEPS = 1000
# Candidates of `chosen_biases` for rows and for columns; they include the default of `Shrinkage`. The last
# one leaves hardly any bias, for values that are mostly noise.
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 300.0)
_WORTH_A_CHANGE = 1 - 0.008  # relative to the squared error with the default


class Baseline(Protocol):
    """A predictor that models are compared with."""

    def predict(self, rows: Integers, columns: Integers) -> Floats:
        """Return float64 predictions, shape (len,), for int64 indices of which some may be -1."""


def errors_of(baseline: Baseline, held_out: HeldOut) -> RatingErrors:
    """Return the errors of a baseline on held-out ratings.

    >>> errors_of(GlobalMean(2.0), HeldOut([0, 0], [0, 1], [1.0, 3.0])).rmse
    1.0
    """
    predictions = baseline.predict(held_out.rows, held_out.columns)
    return RatingErrors.of(predictions, held_out.values, held_out.weights)


@dataclass(frozen=True)
class GlobalMean:
    """Predicts the weighted mean of the training ratings for every pair.

    >>> GlobalMean.fit(Observations([0, 1], [0, 1], [1.0, 4.0])).predict(np.array([-1]), np.array([0])).item()
    2.5
    """

    mean: float

    @classmethod
    def fit(cls, train: Observations) -> GlobalMean:
        """Return the mean of ``train``; raise a `ValueError` if it has no entries of positive weight."""
        return cls(_mean(train))

    def predict(self, rows: Integers, columns: Integers) -> Floats:
        """Return float64 predictions, shape (len,)."""
        return np.full(len(rows), self.mean)


@dataclass(frozen=True)
class Shrinkage(Options):
    """Strength of the ridge penalty of the biases, as a number of ratings equal to the mean; each above 0.

    The best strength is the variance of the noise of a rating divided by that of the biases: about
    0.8 / 0.25 for ratings of one to five stars, hence 3. (The 10 and 25 of Koren, "Factor in the Neighbors",
    2010, are for biases that are estimated one after the other; solved jointly, they need less.)
    """

    rows: Annotated[float, Option("Of the biases of rows.", above=0)] = 3.0
    columns: Annotated[float, Option("Of the biases of columns.", above=0)] = 3.0


@dataclass(frozen=True, eq=False)
class Biases:
    """Predicts mean + row bias + column bias; the bias of an unknown id (-1) is 0.

    The biases minimize Σ w (value − mean − row bias − column bias)² + shrinkage.rows Σ (row bias)² +
    shrinkage.columns Σ (column bias)². They are solved for by conjugate gradients on the columns, with the
    rows eliminated.

    >>> train = Observations([0, 0, 1, 1], [0, 1, 0, 1], [1.0, 3.0, 3.0, 5.0])
    >>> biases = Biases.fit(train, Shrinkage(1e-9, 1e-9))
    >>> biases.predict(np.array([0, 1, -1]), np.array([0, -1, -1])).round(6).tolist()
    [1.0, 4.0, 3.0]
    """

    mean: float
    row_biases: Floats
    column_biases: Floats
    shrinkage: Shrinkage

    @classmethod
    def fit(
        cls,
        train: Observations,
        shrinkage: Shrinkage | None = None,
        *,
        start: Biases | None = None,
        tolerance: float = _TOLERANCE,
    ) -> Biases:
        """Fit the biases to ``train``.

        Args:
            train: the training entries.
            shrinkage: None for the default.
            start: biases of similar entries of the same shape, to start the solver from.
            tolerance: of the residual of the normal equations, relative to their right-hand side; with 1,
                only the rows are fitted, given the columns of ``start``.

        Raises:
            ValueError: ``train`` has no entries of positive weight.
            RuntimeError: the solver does not converge, since ``shrinkage`` is too small.

        """
        return _Equations(train, tolerance).solved(shrinkage or Shrinkage(), start=start, tolerance=tolerance)

    def predict(self, rows: Integers, columns: Integers) -> Floats:
        """Return float64 predictions, shape (len,), for int64 indices of which some may be -1."""
        return self.mean + _taken(self.row_biases, rows) + _taken(self.column_biases, columns)


def chosen_biases(
    parts: Sequence[tuple[Observations, HeldOut]], *, tolerance: float = _TOLERANCE
) -> list[Biases]:
    """Return the biases of training entries with the shrinkage that is best on held-out entries.

    The default shrinkage is kept unless another one of 5 × 5 reduces the squared error on the held-out
    entries, summed over the parts, by more than 0.8% (the RMSE by 0.4%), since on few entries the best of
    25 is best by chance. The candidates are compared approximately: each bias is rescaled as if it were
    shrunk alone.

    Args:
        parts: pairs of training and held-out entries, of one or more folds, which share the shrinkage.
        tolerance: see `Biases.fit`.

    Raises:
        ValueError, RuntimeError: as for `Biases.fit`.

    Example:
        >>> train = Observations([0, 0, 1, 1], [0, 1, 0, 1], [1.0, 3.0, 3.0, 5.0])
        >>> [biases.shrinkage for biases in chosen_biases([(train, HeldOut([0], [0], [1.0]))])]
        [Shrinkage(rows=1.0, columns=1.0)]

    """
    equations = [_Equations(train, tolerance) for train, _ in parts]
    usual = [one.solved(Shrinkage(), tolerance=_ROUGHLY) for one in equations]

    def error(shrinkage: Shrinkage) -> float:
        shrunk = [one.shrunk(own, shrinkage) for one, own in zip(equations, usual, strict=True)]
        return sum(
            (errors_of(own, validation).of_all(train.sharding).rmse or 0.0) ** 2
            for own, (train, validation) in zip(shrunk, parts, strict=True)
        )

    errors = {one: error(one) for one in (Shrinkage(*pair) for pair in product(STRENGTHS, STRENGTHS))}
    default, best = Shrinkage(), min(errors, key=lambda one: errors[one])
    shrinkage = best if errors[best] < _WORTH_A_CHANGE * errors[default] else default
    if shrinkage == default and tolerance >= _ROUGHLY:
        return usual
    return [
        one.solved(shrinkage, start=own, tolerance=tolerance)
        for one, own in zip(equations, usual, strict=True)
    ]


def usual_baselines(train: Observations, validation: HeldOut | None = None) -> dict[str, Baseline]:
    """Return the baselines for `evaluate`: the mean and the biases of ``train``.

    Args:
        train: the entries that the model was trained on.
        validation: the entries, disjoint from ``train``, on which the options of the model were chosen, if
            any. They then also select the shrinkage of the biases, so that the comparison is fair.

    Raises:
        ValueError: ``train`` has no entries of positive weight.

    Example:
        >>> list(usual_baselines(Observations([0, 1], [0, 1], [1.0, 4.0])))
        ['mean', 'biases']

    """
    biases = Biases.fit(train) if validation is None else chosen_biases([(train, validation)])[0]
    return {"mean": GlobalMean(biases.mean), "biases": biases}


class _Equations:
    """The normal equations of the biases without shrinkage, built once and solved for any shrinkage.

    Sums are computed in float64 or, if a rough solution is requested, in float32, which is twice as fast.
    """

    def __init__(self, train: Observations, tolerance: float = _TOLERANCE) -> None:
        self.mean, self._sharding = _mean(train), train.sharding
        layouts = [part.layout() for part in train.parts]
        self._buffers = [layout.buffer for layout in layouts]
        is_rough = tolerance >= _ROUGHLY and train.dtype != torch.float64
        dtype = torch.float32 if is_rough else torch.float64
        self._weights = [None if own.weights is None else own.weights.to(dtype) for own in layouts]
        # Scaled to 1, so that no square of large ratings overflows in the solver.
        self.scale = max(abs(one - self.mean) for one in value_range(train)) or 1.0
        values = [layout.values.to(dtype) / self.scale for layout in layouts]
        self._zeros = [torch.zeros_like(own) for own in values]
        self._degrees = [degree.cpu().numpy() for degree in degrees(train)]
        rows, columns = (np.zeros_like(degree) for degree in self._degrees)
        self._pull = [-one for one in self._sums(rows + self.mean / self.scale, columns, values)]

    def shrunk(self, biases: Biases, shrinkage: Shrinkage) -> Biases:
        """Return the biases, rescaled as if another shrinkage were applied to each alone."""
        before, (rows, columns) = biases.shrinkage, self._degrees
        row_biases = biases.row_biases * ((rows + before.rows) / (rows + shrinkage.rows))
        column_biases = biases.column_biases * ((columns + before.columns) / (columns + shrinkage.columns))
        return Biases(biases.mean, row_biases, column_biases, shrinkage)

    def solved(
        self, shrinkage: Shrinkage, *, start: Biases | None = None, tolerance: float = _TOLERANCE
    ) -> Biases:
        """Return the biases, by conjugate gradients from ``start``, preconditioned by the diagonal."""
        row_weight, column_weight = self._degrees[0] + shrinkage.rows, self._degrees[1] + shrinkage.columns
        columns = np.zeros_like(column_weight) if start is None else start.column_biases / self.scale
        rows = self._pull[0] / row_weight  # optimal for these columns
        if start is not None:
            rows -= self._by_row(columns) / row_weight
        residual = self._pull[1] - self._by_column(rows) - column_weight * columns
        goal = tolerance * max(self._norm_of_rows(self._pull[0]), float(np.linalg.norm(self._pull[1])))
        direction, size = np.zeros_like(columns), 1.0
        for _ in range(_MOST_STEPS):
            scaled = residual / column_weight
            size, last = float((residual * scaled).sum()), size
            if not size or np.linalg.norm(residual) <= goal:  # squares underflow before the norm
                return Biases(self.mean, rows * self.scale, columns * self.scale, shrinkage)
            direction = scaled + size / last * direction
            row_direction = -self._by_row(direction) / row_weight
            image = column_weight * direction + self._by_column(row_direction)
            length = size / float((direction * image).sum())
            columns, rows = columns + length * direction, rows + length * row_direction
            residual = residual - length * image
        raise RuntimeError("the biases did not converge; use a larger `shrinkage`")

    def _by_row(self, columns: Floats) -> Floats:
        """Return the weights, as a matrix, times a vector ``(n,)``."""
        return self._sums(np.zeros_like(self._degrees[0]), columns, self._zeros)[0]

    def _by_column(self, rows: Floats) -> Floats:
        return self._sums(rows, np.zeros_like(self._degrees[1]), self._zeros)[1]

    def _norm_of_rows(self, rows: Floats) -> float:
        with one_thread():  # so that the result does not depend on the number of threads
            squares = [(part**2).sum().item() for part in self._sharding.split(torch.from_numpy(rows))]
        return math.sqrt(self._sharding.total_of(squares))

    def _sums(self, rows: Floats, columns: Floats, values: Sequence[Tensor]) -> tuple[Floats, Floats]:
        """Return Σ w (row + column − value) over the entries of every row and of every column."""
        a = torch.from_numpy(np.stack([rows, np.ones_like(rows)], 1)).to(values[0])
        b = torch.from_numpy(np.stack([np.ones_like(columns), columns], 1)).to(values[0])
        of_rows, of_columns = [], []
        for own, buffer, numbers, weights in zip(
            self._sharding.split(a), self._buffers, values, self._weights, strict=True
        ):
            _, sums, other_sums = torch.ops.dmf_fast.completion_loss_gradients(
                own.contiguous(), b, buffer, numbers, weights, 0.5
            )
            of_rows.append(sums[:, 0].double())
            of_columns.append(other_sums[:, 1].double())
        return torch.cat(of_rows).cpu().numpy(), self._sharding.total(of_columns).cpu().numpy()


def _mean(train: Observations) -> float:
    if train.total_weight <= 0:
        raise ValueError(
            "`train` must hold an entry of positive weight, got none; there is nothing to predict from"
        )
    return mean_value(train)


def _taken(biases: Floats, indices: Integers) -> Floats:
    padded = np.append(biases, 0.0)  # for -1, and for ids beyond the shape
    return padded[np.minimum(indices, len(biases))]
