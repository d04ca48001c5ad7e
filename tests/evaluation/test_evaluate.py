"""A model compared with its baselines: totals, cold start, odd data, tables and JSON."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from dmf_fast import Observations
from dmf_fast.evaluation import (
    GROUPS,
    Biases,
    EvaluationOptions,
    HeldOut,
    MostPopular,
    evaluate,
    evaluation_tables,
    usual_baselines,
)
from dmf_fast.serving import SeenColumns

TRAIN = Observations([0, 0, 1], [0, 1, 0], [1.0, 2.0, 3.0], (3, 4))
TEST = HeldOut([1, 1, 2, -1, 9], [1, 3, 0, -1, 2], [4.0, 5.0, 2.0, 1.0, 0.0])
BASELINES = usual_baselines(TRAIN)


def twos(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return np.full(len(rows), 2.0)


def test_errors_are_told_apart_by_which_ids_training_has_ratings_of() -> None:
    scores = evaluate(twos, TRAIN, TEST, BASELINES).model

    # Row 2 and columns 2 and 3 lie within the shape, but training has no rating of them.
    counts = {name: errors.count for name, errors in scores.by_group.items()}
    assert counts == {"both known": 1, "new column": 1, "new row": 1, "both new": 2}
    squared = {name: errors.squared for name, errors in scores.by_group.items()}
    assert squared == {"both known": 4.0, "new column": 9.0, "new row": 0.0, "both new": 5.0}
    assert scores.total.rmse == pytest.approx((18 / 5) ** 0.5)
    assert evaluate(twos, TRAIN, TEST, BASELINES).coverage == dict(
        zip(GROUPS, (0.2, 0.2, 0.2, 0.4), strict=True)
    )


def test_the_model_is_given_minus_one_for_ids_without_training_ratings() -> None:
    asked = []

    def predict(rows: np.ndarray, columns: np.ndarray) -> torch.Tensor:
        asked.extend(zip(rows.tolist(), columns.tolist(), strict=True))
        return torch.zeros(len(rows))

    evaluate(predict, TRAIN, TEST, BASELINES)

    assert asked == [(1, 1), (1, -1), (-1, 0), (-1, -1), (-1, -1)]


def test_no_nan_metrics_come_from_cold_start_ids() -> None:
    def predict(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return np.where((rows < 0) | (columns < 0), np.nan, 4.0)

    scores = evaluate(predict, TRAIN, TEST, BASELINES).model

    # The training mean of 2 stands in for four pairs, which are counted and stay in the total.
    assert scores.without_prediction == 4
    assert scores.total.count == 5
    assert scores.total.squared == 0.0 + 9.0 + 0.0 + 1.0 + 4.0
    json.dumps(evaluate(predict, TRAIN, TEST, BASELINES).as_dict(), allow_nan=False)


def test_a_model_that_diverged_is_measured_as_one_that_predicts_nothing() -> None:
    for huge, clip in ((np.inf, None), (-np.inf, None), (1e300, None), (np.inf, (1.0, 5.0))):
        options = EvaluationOptions(clip=clip)
        predict = lambda rows, _, huge=huge: np.full(len(rows), huge)  # noqa: E731
        scores = evaluate(predict, TRAIN, TEST, BASELINES, options=options)
        assert scores.model.without_prediction == 5
        assert scores.model.total == scores.baselines["mean"].total


def test_baselines_are_listed_with_the_model() -> None:
    evaluation = evaluate(twos, TRAIN, TEST, BASELINES)

    assert evaluation.baselines["mean"].total.squared == 4 + 9 + 0 + 1 + 4  # the mean is 2
    biases = Biases.fit(TRAIN)
    predictions = biases.predict(np.array([1, 1, -1, -1, -1]), np.array([1, -1, 0, -1, -1]))
    expected = float(((predictions - TEST.values) ** 2).sum())
    assert evaluation.baselines["biases"].total.squared == pytest.approx(expected)


def test_predictions_in_blocks_give_the_same_evaluation() -> None:
    random = np.random.default_rng(0)
    test = HeldOut(random.integers(-1, 3, 50), random.integers(-1, 4, 50), random.normal(size=50))

    def predict(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return rows - columns / 2

    whole = evaluate(predict, TRAIN, test, BASELINES)
    assert (
        evaluate(predict, TRAIN, test, BASELINES, options=EvaluationOptions(block=7)).as_dict()
        == whole.as_dict()
    )


def test_clipping_concerns_the_model_and_the_baselines_alike() -> None:
    options = EvaluationOptions(clip=(2.5, 5.0))

    evaluation = evaluate(twos, TRAIN, HeldOut([0], [0], [2.5]), BASELINES, options=options)

    assert evaluation.model.total.rmse == evaluation.baselines["mean"].total.rmse == 0.0


def test_validation_ratings_give_the_biases_the_same_chance() -> None:
    train = Observations([0, 0, 1, 1], [0, 1, 0, 1], [1.0, 3.0, 3.0, 5.0])

    biases = usual_baselines(train, HeldOut([0, 7], [0, 9], [1.0, 3.0]))["biases"]

    assert isinstance(biases, Biases)
    assert biases.shrinkage.rows == biases.shrinkage.columns == 1.0


def test_the_places_of_the_training_ratings_are_all_that_is_needed_of_them() -> None:
    popular = MostPopular(SeenColumns.of(TRAIN))
    of_ratings, of_places = (
        evaluate(twos, train, TEST, BASELINES, recommend=popular.recommend)
        for train in (TRAIN, SeenColumns.of(TRAIN))
    )

    assert of_places == of_ratings


def test_weights_of_the_test_ratings_count() -> None:
    test = HeldOut([0, 0], [0, 1], [2.0, 4.0], weights=[1.0, 3.0])

    assert evaluate(twos, TRAIN, test, BASELINES).model.total.rmse == pytest.approx(3**0.5)


def test_rankings_of_the_model_are_listed_with_the_most_popular() -> None:
    test = HeldOut([0, 0, 1, 2], [2, 3, 1, 0], [5.0, 1.0, 5.0, 5.0])

    def recommend(rows: np.ndarray, count: int) -> np.ndarray:
        assert count == 2
        return np.where(rows[:, None] == 0, np.array([2, 3]), np.array([0, 1]))

    options = EvaluationOptions(cutoff=2, relevant_from=4.0, block=1)
    evaluation = evaluate(twos, TRAIN, test, BASELINES, recommend=recommend, options=options)

    assert evaluation.ranking is not None
    assert evaluation.baseline_ranking is not None
    assert (evaluation.ranking.rows, evaluation.ranking.recall) == (3, 1.0)
    assert evaluation.ranking.mrr == pytest.approx((1 + 1 / 2 + 1) / 3)
    # Row 0 has rated both columns of the training ratings, row 1 the first; row 2 is unknown.
    assert evaluation.baseline_ranking.recall == pytest.approx(2 / 3)


# Constant, far apart, skewed, of either sign.
VALUES = st.sampled_from([3.0, -1e100, 1e100, 0.0, 1e-300]) | st.floats(-1e140, 1e140)


@st.composite
def odd_ratings(draw: st.DrawFn) -> tuple[Observations, HeldOut]:
    shape = draw(st.sampled_from([(1, 1), (1, 6), (6, 1), (4, 5)]))
    cells = draw(st.lists(st.integers(0, shape[0] * shape[1] - 1), unique=True, min_size=1))
    constant = draw(st.booleans())
    values = [3.0 if constant else draw(VALUES) for _ in cells]
    places = np.array(cells)
    train = Observations(places // shape[1], places % shape[1], values, shape, dtype=torch.float64)
    size = draw(st.integers(0, 5))
    indices = st.lists(st.integers(-1, 8), min_size=size, max_size=size)
    return train, HeldOut(draw(indices), draw(indices), [draw(VALUES) for _ in range(size)])


@settings(max_examples=50)
@given(odd_ratings())
def test_nothing_crashes_on_one_user_one_item_constant_ratings_extreme_skew_or_unbounded_ratings(
    ratings: tuple[Observations, HeldOut],
) -> None:
    train, test = ratings
    popular = MostPopular(SeenColumns.of(train))
    baselines = usual_baselines(train, test)

    evaluation = evaluate(Biases.fit(train).predict, train, test, baselines, recommend=popular.recommend)

    json.dumps(evaluation.as_dict(), allow_nan=False)
    assert evaluation.model.total.count == len(test)
    assert evaluation.ranking == evaluation.baseline_ranking


def test_the_table_shows_every_group_that_occurs_and_the_name_of_the_model() -> None:
    printed = io.StringIO()
    options = EvaluationOptions(cutoff=2)
    popular = MostPopular(SeenColumns.of(TRAIN))
    evaluation = evaluate(twos, TRAIN, TEST, BASELINES, recommend=popular.recommend, options=options)

    Console(width=120, file=printed).print(evaluation_tables(evaluation, "depth [3]"))

    shown = printed.getvalue()
    for words in ("depth [3]", "mean", "biases", "most popular", "NDCG", "all (5)", "both new (2)", "40.0%"):
        assert words in shown
    assert f"{evaluation.model.total.rmse:.4f}" in shown


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"predict": lambda rows, columns: np.zeros(1)}, ValueError, "prediction for each of 5 pairs"),
        ({"predict": lambda rows, columns: None}, TypeError, "`predictions` must hold real numbers"),
        (
            {"recommend": lambda rows, count: np.zeros((1, 2), dtype=int)},
            ValueError,
            r"`recommend` must return shape \(4, 10\)",
        ),
        ({"baselines": {}}, ValueError, "`baselines` must hold at least one"),
    ],
)
def test_what_is_no_model_is_refused(change: dict[str, Any], error: type[Exception], message: str) -> None:
    test = HeldOut([0, 1, 2, 3, 3], [0, 1, 2, 3, 4], [1.0] * 5)
    arguments = {"predict": twos, "train": TRAIN, "test": test, "baselines": BASELINES, **change}

    with pytest.raises(error, match=message):
        evaluate(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([-2], [0], [1.0]), IndexError, r"`rows` must be at least -1, .* got rows\[0\] = -2"),
        (([0], [0, 1], [1.0]), ValueError, "`columns` must hold one number for each of the 1"),
        (([0.5], [0], [1.0]), TypeError, "`rows` must hold integers"),
        (([0], [0], [np.nan]), ValueError, "`values` must be finite"),
        (([0], [0], [1e200]), ValueError, "`values` must be at most"),
        (([0], [0], [1.0], [-1.0]), ValueError, "`weights` must not be negative"),
    ],
)
def test_held_out_ratings_are_checked(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        HeldOut(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 0}, "`bins` must be at least 1"),
        ({"cutoff": 0}, "`cutoff` must be at least 1"),
        ({"clip": (5.0, 1.0)}, "`clip` must be"),
        ({"relevant_from": np.nan}, "`relevant_from` must be finite"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluationOptions(**options)


def test_an_evaluation_is_of_the_best_ten_and_clips_nothing_by_default() -> None:
    assert EvaluationOptions() == EvaluationOptions(
        clip=None, bins=10, cutoff=10, relevant_from=None, block=1 << 20
    )
    assert EvaluationOptions(clip=(2.0, 2.0)).clip == (2.0, 2.0)
    with pytest.raises(ValueError, match=r"`clip` must be \(lowest, highest\), got \(2.5, 2.0\)"):
        EvaluationOptions(clip=(2.5, 2.0))
    for name in ("bins", "cutoff", "block"):
        assert getattr(EvaluationOptions(**{name: 1}), name) == 1
        with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got 0"):
            EvaluationOptions(**{name: 0})


def test_a_prediction_of_the_largest_size_is_one_and_a_larger_one_is_not() -> None:
    test = HeldOut([0, 0], [0, 1], [1.0, 1.0])
    predict = lambda rows, columns: np.array([1e140, -1.01e140])  # noqa: E731
    assert evaluate(predict, TRAIN, test, BASELINES).model.without_prediction == 1
