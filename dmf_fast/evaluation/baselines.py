"""What every model has to beat: the mean rating, and the mean with a bias for each row and column."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Annotated

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, cg

from dmf_fast.evaluation.errors import RatingErrors
from dmf_fast.evaluation.finite import Floats, Integers
from dmf_fast.evaluation.held_out import HeldOut
from dmf_fast.observations import Observations
from dmf_fast.options import Option, Options

STRENGTHS = (1.0, 3.0, 10.0, 30.0)  # what `chosen_biases` tries for rows and for columns


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
        return cls(_weighted_mean(HeldOut.of(train)))

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

    The biases minimise Σ w (value − mean − row bias − column bias)² + shrinkage.rows Σ (row bias)² +
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
    def fit(cls, train: Observations, shrinkage: Shrinkage | None = None) -> Biases:
        """Return the biases of ``train``; a `ValueError` where it has no entries of positive weight."""
        return _Equations(train).solved(shrinkage or Shrinkage())

    def predict(self, rows: Integers, columns: Integers) -> Floats:
        """Return float64 predictions, shape (len,), for int64 indices of which some may be -1."""
        return self.mean + _taken(self.row_biases, rows) + _taken(self.column_biases, columns)


def chosen_biases(train: Observations, validation: HeldOut) -> Biases:
    """Return the biases of ``train`` whose shrinkage, of 4 × 4, predicts ``validation`` best.

    Where ``validation`` tells nothing, it is the usual one.

    Example:
        >>> train = Observations([0, 0, 1, 1], [0, 1, 0, 1], [1.0, 3.0, 3.0, 5.0])
        >>> chosen_biases(train, HeldOut([0], [0], [1.0])).shrinkage
        Shrinkage(rows=1.0, columns=1.0)

    """
    equations = _Equations(train)

    def squared_errors(biases: Biases) -> float:
        predictions = biases.predict(validation.rows, validation.columns)
        return RatingErrors.of(predictions, validation.values, validation.weights).squared

    usual = Shrinkage()
    tried = sorted(
        (Shrinkage(*strengths) for strengths in product(STRENGTHS, STRENGTHS)), key=lambda one: one != usual
    )
    return min(map(equations.solved, tried), key=squared_errors)


class _Equations:
    """The normal equations of the biases, without shrinkage: built once, solved for any."""

    def __init__(self, train: Observations) -> None:
        ratings = HeldOut.of(train)
        self.mean = _weighted_mean(ratings)
        weights = np.ones(len(ratings)) if ratings.weights is None else ratings.weights
        residuals = ratings.values - self.mean
        # Scaled to 1, so that no square of large ratings overflows in the solver.
        self.scale = float(np.abs(residuals).max()) or 1.0
        pull = weights * (residuals / self.scale)
        entries = (ratings.rows, ratings.columns)
        self.pattern = scipy.sparse.csr_array((weights, entries), shape=train.shape)
        self.weight = [np.bincount(i, weights, size) for i, size in zip(entries, train.shape, strict=True)]
        self.pull = [np.bincount(i, pull, size) for i, size in zip(entries, train.shape, strict=True)]

    def solved(self, shrinkage: Shrinkage) -> Biases:
        row_weight = self.weight[0] + shrinkage.rows
        column_weight = self.weight[1] + shrinkage.columns
        transposed = self.pattern.T

        def reduced(columns: Floats) -> Floats:
            by_row: Floats = self.pattern @ columns.ravel()
            result: Floats = column_weight * columns.ravel() - transposed @ (by_row / row_weight)
            return result

        size = len(column_weight)
        column_biases, left = cg(
            LinearOperator((size, size), matvec=reduced, dtype=np.float64),
            self.pull[1] - transposed @ (self.pull[0] / row_weight),
            rtol=1e-8,
            maxiter=1000,
            M=scipy.sparse.diags_array(1 / column_weight),
        )
        if left:
            raise RuntimeError(f"The biases did not settle for {shrinkage}; shrink them more.")
        row_biases = (self.pull[0] - self.pattern @ column_biases) / row_weight
        return Biases(self.mean, row_biases * self.scale, column_biases * self.scale, shrinkage)


def _weighted_mean(ratings: HeldOut) -> float:
    weight = len(ratings) if ratings.weights is None else float(ratings.weights.sum())
    if weight <= 0:
        raise ValueError(
            "train must hold an entry of positive weight, got none; there is nothing to predict from."
        )
    return float(np.average(ratings.values, weights=ratings.weights))


def _taken(biases: Floats, indices: Integers) -> Floats:
    padded = np.append(biases, 0.0)  # where -1 points to
    return padded[indices]
