"""A model beside its baselines on held-out ratings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dmf_fast.evaluation.baselines import Biases, GlobalMean, chosen_biases
from dmf_fast.evaluation.calibration import calibration
from dmf_fast.evaluation.errors import RatingErrors
from dmf_fast.evaluation.finite import LARGEST, Floats, Integers
from dmf_fast.evaluation.held_out import HeldOut
from dmf_fast.evaluation.popularity import MostPopular
from dmf_fast.evaluation.ranking import RankingMetrics, Relevant
from dmf_fast.evaluation.results import GROUPS, Evaluation, EvaluationOptions, RatingScores
from dmf_fast.observations import Observations
from dmf_fast.observations.validation import read_numbers, to_tensor

Predict = Callable[[Integers, Integers], Any]
"""Rows and columns, int64 with -1 for ids that training never saw, to predictions, all of shape (len,)."""

Recommend = Callable[[Integers, int], Any]
"""Rows, int64 with -1 likewise, and k to (len(rows), k) columns, best first, -1 where there are fewer."""


def evaluate(
    predict: Predict,
    train: Observations,
    test: HeldOut | Observations,
    *,
    validation: HeldOut | Observations | None = None,
    recommend: Recommend | None = None,
    options: EvaluationOptions | None = None,
) -> Evaluation:
    """Return how well ``predict`` does on ``test``, beside the mean and the biases of ``train``.

    An id is cold where training has no rating of it: ``predict`` and ``recommend`` are given -1 for it, and
    errors are told apart by which ids of a pair are known. A prediction that is not finite is replaced by the
    training mean, counted, and part of the total: no choice of the model makes a pair go away.

    Args:
        predict: the model; asked in blocks of ``options.block`` pairs.
        train: what the model was trained on.
        test: what it is measured on, by the same indices.
        validation: what the model's settings were chosen on, if anything; none of it is in ``train``. It then
            chooses the shrinkage of the biases too, so that the baseline had the same chance.
        recommend: what the model recommends, for ranking metrics beside those of `MostPopular`.
        options: see `EvaluationOptions`.

    Raises:
        ValueError: ``train`` is empty, or ``predict`` or ``recommend`` returned another shape.

    Example:
        >>> train = Observations([0, 0, 1], [0, 1, 0], [1.0, 2.0, 3.0])
        >>> evaluation = evaluate(lambda rows, columns: 2.0 + 0 * rows, train, HeldOut([1], [1], [4.0]))
        >>> evaluation.model.total.rmse, evaluation.baselines["mean"].total.rmse
        (2.0, 2.0)

    """
    options = options or EvaluationOptions()
    test = _held_out(test)
    known = _Known(train)
    rows, columns = known.rows(test.rows), known.columns(test.columns)
    mean = GlobalMean.fit(train)
    biases = (
        Biases.fit(train) if validation is None else chosen_biases(train, _known_pairs(known, validation))
    )

    def scores(model: Predict) -> RatingScores:
        predictions = _predictions(model, rows, columns, options.block)
        usable = np.abs(predictions) <= LARGEST
        predictions[~usable] = mean.mean
        if options.clip is not None:
            predictions = np.clip(predictions, *options.clip)
        return _scores(rows, columns, predictions, test, int((~usable).sum()), options.bins)

    ranking = baseline_ranking = None
    if recommend is not None:
        relevant = Relevant(test, options.relevant_from)
        ranking = _ranking(recommend, known, relevant, options)
        baseline_ranking = _ranking(MostPopular(train).recommend, known, relevant, options)
    baselines = {"mean": scores(mean.predict), "biases": scores(biases.predict)}
    return Evaluation(scores(predict), baselines, biases.shrinkage, ranking, baseline_ranking)


def _scores(
    rows: Integers, columns: Integers, predictions: Floats, test: HeldOut, filled: int, bins: int
) -> RatingScores:
    group = 2 * (rows < 0) + (columns < 0)  # the place in GROUPS
    weights = test.weights

    def errors(of: NDArray[np.bool_]) -> RatingErrors:
        return RatingErrors.of(predictions[of], test.values[of], None if weights is None else weights[of])

    return RatingScores(
        by_group={name: errors(group == place) for place, name in enumerate(GROUPS)},
        by_value=calibration(test.values, predictions, test.values, bins),
        by_prediction=calibration(predictions, predictions, test.values, bins),
        without_prediction=filled,
    )


def _predictions(model: Predict, rows: Integers, columns: Integers, block_size: int) -> Floats:
    predictions = np.empty(len(rows))
    for block in _blocks(len(rows), block_size):
        given = read_numbers("what predict returns", model(rows[block], columns[block]))
        if len(given) != len(rows[block]):
            raise ValueError(
                f"predict must return a prediction for each of {len(rows[block])} pairs, but returned "
                f"{len(given)}."
            )
        predictions[block] = to_tensor(given, torch.float64).numpy()
    return predictions


def _ranking(
    recommend: Recommend, known: _Known, relevant: Relevant, options: EvaluationOptions
) -> RankingMetrics:
    total = RankingMetrics(options.cutoff, rows_left_out=relevant.rows_left_out)
    # Fewer rows than pairs at once: a row may take a score for every column.
    for block in _blocks(len(relevant.rows), max(1, options.block // 256)):
        rows = relevant.rows[block]
        recommended = np.asarray(recommend(known.rows(rows), options.cutoff))
        if recommended.shape != (len(rows), options.cutoff):
            raise ValueError(
                f"recommend must return shape ({len(rows)}, {options.cutoff}), columns for each row, but "
                f"returned {recommended.shape}; pad with -1 where there are fewer columns."
            )
        total += relevant.measure(rows, recommended)
    return total


class _Known:
    """Turns indices that training has no rating of into -1."""

    def __init__(self, train: Observations) -> None:
        # One place more, always cold, for -1 and for what lies beyond the shape.
        self._has_ratings = [
            np.bincount(indices.cpu().numpy(), minlength=size + 1) > 0
            for indices, size in zip((train.rows, train.columns), train.shape, strict=True)
        ]

    def rows(self, indices: Integers) -> Integers:
        return self._or_unknown(indices, self._has_ratings[0])

    def columns(self, indices: Integers) -> Integers:
        return self._or_unknown(indices, self._has_ratings[1])

    def _or_unknown(self, indices: Integers, has_ratings: NDArray[np.bool_]) -> Integers:
        return np.where(has_ratings[np.minimum(indices, len(has_ratings) - 1)], indices, -1)


def _known_pairs(known: _Known, ratings: HeldOut | Observations) -> HeldOut:
    held_out = _held_out(ratings)
    return HeldOut(
        known.rows(held_out.rows), known.columns(held_out.columns), held_out.values, held_out.weights
    )


def _held_out(ratings: HeldOut | Observations) -> HeldOut:
    return HeldOut.of(ratings) if isinstance(ratings, Observations) else ratings


def _blocks(length: int, size: int) -> Iterable[slice]:
    return (slice(start, start + size) for start in range(0, length, size))
