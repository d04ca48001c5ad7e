"""Errors by the number of training ratings."""

from __future__ import annotations

import numpy as np
import pytest

from dmf_fast.evaluation import HeldOut, RatingErrors, evaluate, usual_baselines
from dmf_fast.evaluation.by_count import errors_by_count
from dmf_fast.observations import Observations


def test_the_bins_part_the_test_ratings_by_their_number_of_training_ratings() -> None:
    random = np.random.default_rng(5)
    counts = np.concatenate([[0, 1, 2, 4, 5, 9, 10], random.integers(0, 10_000_000, 500)])
    predictions, values, weights = random.normal(size=(3, len(counts)))
    weights = np.abs(weights)

    bins = errors_by_count(counts, predictions, values, weights)

    for part in bins:
        inside = (part.fewest <= counts) & (counts <= part.most)
        expected = RatingErrors.of(predictions[inside], values[inside], weights[inside])
        assert part.errors.count == expected.count > 0
        assert part.errors.rmse == pytest.approx(expected.rmse)
        assert part.errors.mae == pytest.approx(expected.mae)
    assert sum(part.errors.count for part in bins) == len(counts)
    assert [(part.fewest, part.most) for part in bins[:4]] == [(0, 0), (1, 1), (2, 4), (5, 9)]


def test_an_evaluation_counts_the_ratings_of_rows_and_of_columns_and_none_of_unknown_ids() -> None:
    train = Observations([0, 0, 0, 1], [0, 1, 2, 0], [1.0, 2.0, 3.0, 3.0], shape=(3, 3))
    test = HeldOut([0, 1, 2, -1], [0, 1, 2, 0], [1.0, 1.0, 1.0, 1.0])

    scores = evaluate(lambda rows, columns: 2.0 + 0 * rows, train, test, usual_baselines(train)).model

    def numbers(bins: list[dict[str, float]]) -> dict[float, float]:
        return {part["fewest"]: part["count"] for part in bins}

    found = scores.as_dict()
    assert numbers(found["errors_by_row_ratings"]) == {0: 2, 1: 1, 2: 1}
    assert numbers(found["errors_by_column_ratings"]) == {1: 2, 2: 2}
