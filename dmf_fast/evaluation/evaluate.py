"""A model compared with baselines on held-out ratings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dmf_fast.evaluation.baselines import Baseline
from dmf_fast.evaluation.by_count import errors_by_count
from dmf_fast.evaluation.calibration import calibration
from dmf_fast.evaluation.errors import RatingErrors
from dmf_fast.evaluation.held_out import HeldOut
from dmf_fast.evaluation.numbers import LARGEST, Floats, Integers
from dmf_fast.evaluation.popularity import MostPopular, column_counts
from dmf_fast.evaluation.ranking import RankingMetrics, Relevant
from dmf_fast.evaluation.results import GROUPS, Evaluation, EvaluationOptions, RatingScores
from dmf_fast.observations import Observations
from dmf_fast.observations.validation import read_numbers, to_tensor
from dmf_fast.serving.seen_columns import SeenColumns
from dmf_fast.sharding import WHOLE, RowSharding

Predict = Callable[[Integers, Integers], Any]
"""Maps rows and columns, int64 with -1 for ids unseen in training, to predictions, all of shape (len,)."""

Recommend = Callable[[Integers, int], Any]
"""Maps rows, int64 with -1 likewise, and k to (len(rows), k) columns, best first, padded with -1."""


def evaluate(
    predict: Predict,
    train: Observations | SeenColumns,
    test: HeldOut | Observations,
    baselines: Mapping[str, Baseline],
    *,
    recommend: Recommend | None = None,
    options: EvaluationOptions | None = None,
    sharding: RowSharding | None = None,
) -> Evaluation:
    """Evaluate ``predict`` on ``test``, compared with ``baselines``.

    An id without training ratings is cold: ``predict`` and ``recommend`` get -1 for it, and errors are
    grouped by which ids of a pair are known. A prediction that is not finite is replaced by that of the first
    baseline, counted, and included in the total, so that a model cannot skip pairs.

    Args:
        predict: the model, called with blocks of ``options.block`` pairs.
        train: the entries that the model was trained on, or only their positions.
        test: the entries to measure on, with the same indices.
        baselines: baselines by name, such as those of `usual_baselines`; at least one, with finite
            predictions.
        recommend: the recommendations of the model, for ranking metrics compared with those of `MostPopular`.
        options: see `EvaluationOptions`.
        sharding: if processes share the rows, their sharding; the other arguments are then for the rows of
            this process, by local index, and the result, the same in all processes, is for all rows. By
            default that of ``train``.

    Raises:
        TypeError: ``predict`` does not return real numbers.
        ValueError: there is no baseline, the first one predicts NaN or infinity, or ``predict`` or
            ``recommend`` returns another shape.

    Example:
        >>> from dmf_fast.evaluation import usual_baselines
        >>> train = Observations([0, 0, 1], [0, 1, 0], [1.0, 2.0, 3.0])
        >>> test, baselines = HeldOut([1], [1], [4.0]), usual_baselines(train)
        >>> evaluation = evaluate(lambda rows, columns: 2.0 + 0 * rows, train, test, baselines)
        >>> evaluation.model.total.rmse, evaluation.baselines["mean"].total.rmse
        (2.0, 2.0)

    """
    if not baselines:
        raise ValueError("`baselines` must hold at least one baseline, got none; `usual_baselines` fits two")
    options = options or EvaluationOptions()
    test = HeldOut.of(test) if isinstance(test, Observations) else test
    if sharding is None:
        sharding = train.sharding if isinstance(train, Observations) else WHOLE
    seen = SeenColumns.of(train) if isinstance(train, Observations) else train
    known = _Known(seen, sharding)
    rows, columns = known.rows(test.rows), known.columns(test.columns)
    ratings = known.ratings_of(rows, columns)
    first = next(iter(baselines.values()))

    def scores(model: Predict) -> RatingScores:
        predictions = _predictions(model, rows, columns, options.block)
        unusable = ~(np.abs(predictions) <= LARGEST)
        if unusable.any():
            predictions[unusable] = first.predict(rows[unusable], columns[unusable])
        if options.clip is not None:
            np.clip(predictions, *options.clip, out=predictions)
        return _scores(rows, columns, ratings, predictions, test, unusable, options.bins, sharding)

    ranking = baseline_ranking = None
    if recommend is not None:
        relevant = Relevant(test, options.relevant_from)
        ranking = _ranking(recommend, known, relevant, options).of_all(sharding)
        popular = MostPopular(seen, sharding)
        baseline_ranking = _ranking(popular.recommend, known, relevant, options).of_all(sharding)
    compared = {name: scores(baseline.predict) for name, baseline in baselines.items()}
    return Evaluation(scores(predict), compared, ranking, baseline_ranking)


def _scores(
    rows: Integers,
    columns: Integers,
    ratings: tuple[Integers, Integers],
    predictions: Floats,
    test: HeldOut,
    filled: NDArray[np.bool_],
    bins: int,
    sharding: RowSharding,
) -> RatingScores:
    group = 2 * (rows < 0) + (columns < 0)  # the index in GROUPS
    weights = test.weights

    def errors(of: NDArray[np.bool_]) -> RatingErrors:
        own = RatingErrors.of(predictions[of], test.values[of], None if weights is None else weights[of])
        return own.of_all(sharding)

    by_row_ratings, by_column_ratings = (
        errors_by_count(counts, predictions, test.values, weights, sharding) for counts in ratings
    )
    return RatingScores(
        by_group={name: errors(group == place) for place, name in enumerate(GROUPS)},
        by_value=calibration(test.values, predictions, test.values, bins, sharding),
        by_prediction=calibration(predictions, predictions, test.values, bins, sharding),
        by_row_ratings=by_row_ratings,
        by_column_ratings=by_column_ratings,
        without_prediction=int(sharding.total_of([float(filled.sum())])),
    )


def _predictions(model: Predict, rows: Integers, columns: Integers, block_size: int) -> Floats:
    predictions = np.empty(len(rows))
    for block in _blocks(len(rows), block_size):
        given = read_numbers("predictions", model(rows[block], columns[block]))
        if len(given) != len(rows[block]):
            raise ValueError(
                f"`predict` must return a prediction for each of {len(rows[block])} pairs, got {len(given)}"
            )
        predictions[block] = to_tensor(given, torch.float64).numpy()
    return predictions


def _ranking(
    recommend: Recommend, known: _Known, relevant: Relevant, options: EvaluationOptions
) -> RankingMetrics:
    total = RankingMetrics(options.cutoff, rows_left_out=relevant.rows_left_out)
    # Fewer rows than pairs at once, since a row may take a score for each column.
    for block in _blocks(len(relevant.rows), max(1, options.block // 256)):
        rows = relevant.rows[block]
        recommended = np.asarray(recommend(known.rows(rows), options.cutoff))
        if recommended.shape != (len(rows), options.cutoff):
            raise ValueError(
                f"`recommend` must return shape ({len(rows)}, {options.cutoff}), columns for each row, got "
                f"{recommended.shape}; pad with -1 where there are fewer columns"
            )
        total += relevant.measure(rows, recommended)
    return total


class _Known:
    """Maps indices without training ratings to -1."""

    def __init__(self, seen: SeenColumns, sharding: RowSharding) -> None:
        # One more element, always cold, for -1 and for indices outside the shape.
        self._of_rows = np.append(seen.offsets.diff().numpy(), 0)
        self._of_columns = np.append(column_counts(seen, sharding), 0)

    def rows(self, indices: Integers) -> Integers:
        return self._or_unknown(indices, self._of_rows)

    def columns(self, indices: Integers) -> Integers:
        return self._or_unknown(indices, self._of_columns)

    def ratings_of(self, rows: Integers, columns: Integers) -> tuple[Integers, Integers]:
        """Return the numbers of training ratings of rows and columns, 0 for -1."""
        return self._of_rows[rows], self._of_columns[columns]

    def _or_unknown(self, indices: Integers, ratings: Integers) -> Integers:
        return np.where(ratings[np.minimum(indices, len(ratings) - 1)] > 0, indices, -1)


def _blocks(length: int, size: int) -> Iterable[slice]:
    return (slice(start, start + size) for start in range(0, length, size))
