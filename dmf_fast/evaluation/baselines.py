"""What every model has to beat: the mean rating, and the mean with a bias for each row and column."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Protocol

import numpy as np
import torch

from dmf_fast.evaluation.errors import RatingErrors
from dmf_fast.evaluation.held_out import HeldOut
from dmf_fast.evaluation.numbers import Floats, Integers, finite_numbers, finite_weights
from dmf_fast.observations import Observations
from dmf_fast.observations.compression import compressed_rows
from dmf_fast.options import Option, Options

_TOLERANCE, _ROUGHLY = 1e-8, 1e-3  # of the residual, relative
_MOST_STEPS = 1000
STRENGTHS = (1.0, 3.0, 10.0, 30.0)  # what `chosen_biases` tries for rows and for columns
_WORTH_A_CHANGE = 1 - 0.008  # of the squared error with the usual ones


class Baseline(Protocol):
    """What a model is compared with."""

    def predict(self, rows: Integers, columns: Integers) -> Floats:
        """Return float64 predictions, shape (len,), for int64 indices of which some may be -1."""


def errors_of(baseline: Baseline, held_out: HeldOut) -> RatingErrors:
    """Return the errors of a baseline on ratings kept aside.

    >>> errors_of(GlobalMean(2.0), HeldOut([0, 0], [0, 1], [1.0, 3.0])).rmse
    1.0
    """
    predictions = baseline.predict(held_out.rows, held_out.columns)
    return RatingErrors.of(predictions, held_out.values, held_out.weights)


@dataclass(frozen=True)
class GlobalMean:
    """Predicts the weighted mean of the training ratings everywhere.

    >>> GlobalMean.fit(Observations([0, 1], [0, 1], [1.0, 4.0])).predict(np.array([-1]), np.array([0])).item()
    2.5
    """

    mean: float

    @classmethod
    def fit(cls, train: Observations) -> GlobalMean:
        """Return the mean of ``train``; a `ValueError` where it has no entries of positive weight."""
        return cls(_weighted_mean(*_values_and_weights(train)))

    def predict(self, rows: Integers, columns: Integers) -> Floats:
        """Return float64 predictions, shape (len,)."""
        return np.full(len(rows), self.mean)


@dataclass(frozen=True)
class Shrinkage(Options):
    """How many ratings at the mean pull each bias towards 0; each above 0.

    The best strength of such a ridge is the variance of a single rating's noise over that of the biases:
    about 0.8 / 0.25 for ratings of one to five stars, hence 3. (The 10 and 25 of Koren, "Factor in the
    Neighbors", 2010, are for biases that are estimated one after the other; solved together they want less.)
    """

    rows: Annotated[float, Option("Of the biases of rows.", above=0)] = 3.0
    columns: Annotated[float, Option("Of the biases of columns.", above=0)] = 3.0


@dataclass(frozen=True, eq=False)
class Biases:
    """Predicts mean + row bias + column bias; the bias of an unknown id (-1) is 0.

    The biases minimize Σ w (value − mean − row bias − column bias)² + shrinkage.rows Σ (row bias)² +
    shrinkage.columns Σ (column bias)², exactly: by conjugate gradients on the columns, the rows eliminated.

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
        cls, train: Observations, shrinkage: Shrinkage | None = None, *, start: Biases | None = None
    ) -> Biases:
        """Return the biases of ``train``; a `ValueError` where it has no entries of positive weight.

        ``start``: the biases of similar entries of the same shape, from which the solver is sooner there.
        """
        return _Equations(train).solved(shrinkage or Shrinkage(), start=start)

    def predict(self, rows: Integers, columns: Integers) -> Floats:
        """Return float64 predictions, shape (len,), for int64 indices of which some may be -1."""
        return self.mean + _taken(self.row_biases, rows) + _taken(self.column_biases, columns)


def chosen_biases(parts: Sequence[tuple[Observations, HeldOut]]) -> list[Biases]:
    """Return the biases of training entries, whose shrinkage the entries held out from them choose.

    The usual shrinkage stays unless another one of 4 × 4 lowers the squared error on what is held out, a mean
    over the parts, by more than 0.8 % (the error by 0.4 %): on few entries the best of 16 is best by chance.

    Args:
        parts: training entries and those held out, of one fold or of several that share the shrinkage.

    Example:
        >>> train = Observations([0, 0, 1, 1], [0, 1, 0, 1], [1.0, 3.0, 3.0, 5.0])
        >>> [biases.shrinkage for biases in chosen_biases([(train, HeldOut([0], [0], [1.0]))])]
        [Shrinkage(rows=1.0, columns=1.0)]

    """
    candidates = [_Candidates(*part) for part in parts]

    def along_columns(rows: float) -> list[tuple[float, Shrinkage]]:
        errors = zip(*(one.errors_along(rows) for one in candidates), strict=True)
        return [(sum(own), Shrinkage(rows, columns)) for own, columns in zip(errors, STRENGTHS, strict=True)]

    # NumPy lets others run while it gathers and adds up.
    with ThreadPoolExecutor(min(len(STRENGTHS), torch.get_num_threads())) as pool:
        tried = list(chain.from_iterable(pool.map(along_columns, STRENGTHS)))
    usual = sum(one.usual_error for one in candidates)
    least, best = min(tried, key=lambda one: one[0])
    shrinkage = best if least < _WORTH_A_CHANGE * usual else Shrinkage()
    return [one.equations.solved(shrinkage, start=one.usual) for one in candidates]


class _Candidates:
    """The biases of one part for every shrinkage that is tried, roughly solved."""

    def __init__(self, train: Observations, validation: HeldOut) -> None:
        self.equations, self._validation = _Equations(train), validation
        self.usual = self.equations.solved(Shrinkage(), tolerance=_ROUGHLY)
        self.usual_error = self._squared_error(self.usual)

    def errors_along(self, rows: float) -> list[float]:
        """Return the mean squared errors for one strength of the rows, each solved from the one before."""
        found, errors = self.usual, []
        for columns in STRENGTHS:
            found = self.equations.solved(Shrinkage(rows, columns), start=found, tolerance=_ROUGHLY)
            errors.append(self._squared_error(found))
        return errors

    def _squared_error(self, biases: Biases) -> float:
        return (errors_of(biases, self._validation).rmse or 0.0) ** 2


def usual_baselines(train: Observations, validation: HeldOut | None = None) -> dict[str, Baseline]:
    """Return the mean and the biases of ``train``, which `evaluate` takes.

    Args:
        train: what the model was trained on.
        validation: what the model's settings were chosen on, if anything; none of it is in ``train``. It then
            chooses the shrinkage of the biases too, so that the baseline had the same chance.

    Raises:
        ValueError: ``train`` has no entries of positive weight.

    Example:
        >>> list(usual_baselines(Observations([0, 1], [0, 1], [1.0, 4.0])))
        ['mean', 'biases']

    """
    biases = Biases.fit(train) if validation is None else chosen_biases([(train, validation)])[0]
    return {"mean": GlobalMean(biases.mean), "biases": biases}


class _Equations:
    """The normal equations of the biases, without shrinkage: built once, solved for any.

    On NumPy alone: importing SciPy takes longer than all of it.
    """

    def __init__(self, train: Observations) -> None:
        rows, columns = (indices.cpu().numpy() for indices in train.coordinates())
        values, weights = _values_and_weights(train)
        self.mean = _weighted_mean(values, weights)
        residuals = values - self.mean
        # Scaled to 1, so that no square of large ratings overflows in the solver.
        self.scale = float(np.abs(residuals).max()) or 1.0
        pull = residuals / self.scale if weights is None else weights * (residuals / self.scale)
        self.pull = [np.bincount(i, pull, size) for i, size in zip((rows, columns), train.shape, strict=True)]
        self.by_row = _SparseRows(rows, columns, train.shape, weights)
        self.by_column = _SparseRows(columns, rows, (train.shape[1], train.shape[0]), weights)

    def solved(
        self, shrinkage: Shrinkage, *, start: Biases | None = None, tolerance: float = _TOLERANCE
    ) -> Biases:
        """Return the biases, by conjugate gradients from ``start``, preconditioned by the diagonal."""
        row_weight = self.by_row.weight + shrinkage.rows
        column_weight = self.by_column.weight + shrinkage.columns
        columns = np.zeros(len(column_weight)) if start is None else start.column_biases / self.scale
        entries = np.empty(len(self.by_row.columns))  # of every product here: new pages take longer
        rows = (self.pull[0] - self.by_row.times(columns, entries)) / row_weight  # the best for these columns
        residual = self.pull[1] - self.by_column.times(rows, entries) - column_weight * columns
        goal = tolerance * np.linalg.norm(self.pull[1])
        direction, size = np.zeros_like(columns), 1.0
        for _ in range(_MOST_STEPS):
            if np.linalg.norm(residual) <= goal:
                return Biases(self.mean, rows * self.scale, columns * self.scale, shrinkage)
            scaled = residual / column_weight
            size, last = float((residual * scaled).sum()), size
            direction = scaled + size / last * direction
            row_direction = -self.by_row.times(direction, entries) / row_weight
            image = column_weight * direction + self.by_column.times(row_direction, entries)
            length = size / float((direction * image).sum())
            columns, rows = columns + length * direction, rows + length * row_direction
            residual = residual - length * image
        raise RuntimeError("the biases did not settle: `shrinkage` must be larger")


class _SparseRows:
    """The matrix of the weights, row by row."""

    def __init__(
        self, rows: Integers, columns: Integers, shape: tuple[int, int], weights: Floats | None
    ) -> None:
        self.weights = None
        if weights is None:
            offsets, in_order = compressed_rows(rows, columns, shape)
            self.columns = in_order.astype(np.int64)
            self.weight: Floats = np.diff(offsets).astype(np.float64)  # of every row
        else:
            order = np.argsort(rows, kind="stable")
            self.columns, self.weights = columns[order], weights[order]
            offsets = np.append(0, np.cumsum(np.bincount(rows, minlength=shape[0])))
            self.weight = np.bincount(rows, weights, shape[0]).astype(np.float64, copy=False)
        self.filled = np.flatnonzero(np.diff(offsets))  # np.add.reduceat takes no empty rows
        self.starts = offsets[self.filled]

    def times(self, vector: Floats, entries: Floats) -> Floats:
        """Return the matrix times a vector, ``(n,)``; ``entries``, ``(nnz,)``, are overwritten."""
        vector.take(self.columns, out=entries, mode="clip")  # checks would take longer than the rest
        if self.weights is not None:
            entries *= self.weights
        product = np.zeros(len(self.weight))
        product[self.filled] = np.add.reduceat(entries, self.starts)
        return product


def _values_and_weights(train: Observations) -> tuple[Floats, Floats | None]:
    weights = train.weights
    values = finite_numbers("values", train.values, len(train))
    return values, None if weights is None else finite_weights(weights, len(train))


def _weighted_mean(values: Floats, weights: Floats | None) -> float:
    if (len(values) if weights is None else float(weights.sum())) <= 0:
        raise ValueError(
            "`train` must hold an entry of positive weight, got none; there is nothing to predict from"
        )
    return float(np.average(values, weights=weights))


def _taken(biases: Floats, indices: Integers) -> Floats:
    padded = np.append(biases, 0.0)  # for -1, and for ids beyond the shape
    return padded[np.minimum(indices, len(biases))]
