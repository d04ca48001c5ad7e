"""Ranking metrics and the most popular columns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from dmf_fast import Observations
from dmf_fast.evaluation import HeldOut, MostPopular, RankingMetrics, Relevant
from dmf_fast.serving import SeenColumns


def test_metrics_of_two_rows_are_those_counted_by_hand() -> None:
    relevant = Relevant(HeldOut([7, 7, 7, 9], [1, 2, 3, 4], [5.0] * 4))

    metrics = relevant.measure(np.array([9, 7]), np.array([[5, 6, 8], [3, 0, 1]]))

    # Row 9 hits nothing. Row 7 has 3 relevant columns, hit at places 1 and 3.
    assert metrics.rows == 2
    assert metrics.recall == pytest.approx((0 + 2 / 3) / 2)
    assert metrics.precision == pytest.approx((0 + 2 / 3) / 2)
    assert metrics.hit_rate == 0.5
    assert metrics.mrr == 0.5
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert metrics.ndcg == pytest.approx((0 + (1 + 1 / math.log2(4)) / ideal) / 2)


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_metrics_agree_with_brute_force_and_scikit_learn(seed: int, cutoff: int) -> None:
    random = np.random.default_rng(seed)
    likes = random.random((6, 8)) < 0.3
    likes[0, 0] = True
    rows, columns = np.nonzero(likes)
    relevant = Relevant(HeldOut(rows, columns, np.ones(len(rows))))
    ranked = np.array([random.permutation(8) for _ in relevant.rows])

    metrics = relevant.measure(relevant.rows, ranked[:, :cutoff])

    hits = likes[relevant.rows[:, None], ranked[:, :cutoff]]
    scores = np.empty(ranked.shape)
    np.put_along_axis(scores, ranked, np.arange(8.0, 0, -1)[None], axis=1)
    assert metrics.recall == pytest.approx(np.mean(hits.sum(1) / likes[relevant.rows].sum(1)))
    assert metrics.precision == pytest.approx(np.mean(hits.sum(1) / cutoff))
    assert metrics.hit_rate == pytest.approx(np.mean(hits.any(1)))
    assert metrics.mrr == pytest.approx(np.mean(hits.any(1) / (hits.argmax(1) + 1)))
    assert metrics.ndcg == pytest.approx(ndcg_score(likes[relevant.rows], scores, k=cutoff))


def test_rows_without_relevant_columns_are_left_out_and_counted() -> None:
    relevant = Relevant(HeldOut([0, 1, 1, -1], [0, 1, 2, 0], [5.0, 2.0, 3.0, 5.0]), least_value=4.0)

    assert relevant.rows.tolist() == [0]
    assert relevant.rows_left_out == 1
    assert Relevant(HeldOut([0], [0], [1.0]), least_value=4.0).rows.tolist() == []


def test_no_row_to_measure_has_no_recall_rather_than_nan() -> None:
    nothing = Relevant(HeldOut([], [], [])).measure(np.empty(0, dtype=np.int64), np.empty((0, 3), dtype=int))

    assert nothing == RankingMetrics(3)
    assert (nothing.recall, nothing.ndcg, nothing.mrr) == (None, None, None)


def test_relevant_columns_that_training_never_saw_count_as_missed() -> None:
    relevant = Relevant(HeldOut([0, 0, 0], [2, -1, -1], [1.0] * 3))

    assert relevant.measure(np.array([0]), np.array([[2, -1]])).recall == pytest.approx(1 / 3)


def test_padding_is_no_recommendation_and_keeps_the_cutoff() -> None:
    relevant = Relevant(HeldOut([0, 1], [3, 3], [1.0] * 2))

    metrics = relevant.measure(np.array([0, 1]), np.array([[3, -1, -1, -1], [-1, -1, -1, -1]]))

    assert (metrics.hit_rate, metrics.precision) == (0.5, 0.125)


def test_a_pair_that_is_held_out_twice_is_one_relevant_column() -> None:
    relevant = Relevant(HeldOut([0, 0, 0], [2, 2, 5], [5.0, 4.0, 5.0]), least_value=4.0)

    assert relevant.measure(np.array([0]), np.array([[2, 3]])).recall == 0.5


def test_columns_beyond_those_held_out_are_no_hits() -> None:
    relevant = Relevant(HeldOut([0, 1, 1], [1, 0, -1], [1.0] * 3))

    metrics = relevant.measure(np.array([0, 1]), np.array([[2, 3], [9, 0]]))

    assert (metrics.hit_rate, metrics.recall, metrics.mrr) == (0.5, 0.25, 0.25)


def test_parts_of_the_rows_add_up_to_all() -> None:
    random = np.random.default_rng(0)
    rows, columns = np.nonzero(random.random((50, 20)) < 0.2)
    relevant = Relevant(HeldOut(rows, columns, np.ones(len(rows))))
    recommended = np.array([random.permutation(20)[:5] for _ in relevant.rows])

    whole = relevant.measure(relevant.rows, recommended)
    parts = [relevant.measure(relevant.rows[part], recommended[part]) for part in (slice(9), slice(9, None))]

    assert (parts[0] + parts[1]).as_dict() == pytest.approx(whole.as_dict())
    for other in (RankingMetrics(9), RankingMetrics(2)):
        with pytest.raises(
            ValueError, match=f"`cutoff` must be the same in both .* got 5 and {other.cutoff}"
        ):
            whole + other


@pytest.mark.parametrize(
    ("rows", "recommended", "message"),
    [
        ([0], [[1, 1]], "`recommended` must hold distinct columns for each row, got one twice for row 0"),
        ([0], [1, 2], r"`recommended` must have shape \(1, k\)"),
        ([0], [[1], [2]], r"`recommended` must have shape \(1, k\), .* got \(2, 1\)"),
        ([0, 5], [[1], [2]], "`rows` must have relevant columns, got"),
        ([0, 0], [[1], [2]], "`rows` must be distinct"),
        ([0], [[0.5]], "`recommended` must hold integers"),
    ],
)
def test_recommendations_that_cannot_be_measured_are_refused(
    rows: list[int], recommended: list[list[float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Relevant(HeldOut([0], [1], [1.0])).measure(np.array(rows), np.array(recommended))


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.floats(0, 1))
def test_the_most_popular_columns_are_the_first_unrated_in_order_of_popularity(
    seed: int, count: int, density: float
) -> None:
    random = np.random.default_rng(seed)
    rated = random.random((9, 30)) < density * random.random(30)
    rows, columns = np.nonzero(rated)
    train = Observations(rows, columns, np.ones(len(rows)), (9, 30), dtype=torch.float32)

    recommended = MostPopular(SeenColumns.of(train)).recommend(np.array([*range(9), -1]), count)

    counts = rated.sum(axis=0).tolist()
    order = sorted((column for column in range(30) if counts[column]), key=lambda column: -counts[column])
    for row, columns_of_row in zip([*rated, np.zeros(30, dtype=bool)], recommended.tolist(), strict=True):
        unrated = [column for column in order if not row[column]][:count]
        assert columns_of_row == unrated + [-1] * (count - len(unrated))
