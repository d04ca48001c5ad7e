"""What predictions, recommendations and similarities are, by the numbers of the model itself."""

from __future__ import annotations

import numpy as np
import pytest

from tests.estimator.ratings import quick, ratings

X, Y = ratings()
ROWS, COLUMNS = (np.unique(X[:, side]) for side in (0, 1))


def test_an_unknown_id_leaves_the_mean_and_the_bias_of_the_other() -> None:
    completer = quick(clip=False).fit(X, Y)
    model = completer.model_
    row, column = 7, 5  # places of the ids in their order
    predictions, known = completer.predict(
        [(-1, COLUMNS[column]), (ROWS[row], -1), (-1, -1)], return_known=True
    )
    expected = [
        completer.mean_ + model.column_bias[column].item(),
        completer.mean_ + model.row_bias[row].item(),
        completer.mean_,
    ]
    assert predictions == pytest.approx(expected, abs=1e-6)
    assert abs(expected[0] - expected[2]) > 0.05
    assert abs(expected[1] - expected[2]) > 0.05
    assert not known.any()


def test_an_unknown_row_gets_the_columns_of_the_highest_bias() -> None:
    completer = quick(clip=False).fit(X, Y)
    biases = completer.model_.column_bias.detach().numpy()
    with pytest.warns(UserWarning, match="1 of 1 ids of `ids`, such as -1, are unknown") as said:
        ids, scores = completer.recommend([-1], k=4)
    assert said[0].filename == __file__
    best = np.argsort(-biases, kind="stable")[:4]
    assert ids[0].tolist() == COLUMNS[best].tolist()
    np.testing.assert_allclose(scores[0], completer.mean_ + biases[best], rtol=1e-6)


def test_scores_are_the_predictions_within_the_range_of_the_ratings() -> None:
    stars = np.clip(Y, 3.0, 4.0)
    completer = quick().fit(X, stars)
    ids, scores = completer.recommend(ROWS[:5], k=6, exclude_seen=False)
    for row, own_ids, own_scores in zip(ROWS, ids, scores, strict=False):
        np.testing.assert_allclose(completer.predict([(row, one) for one in own_ids]), own_scores, atol=1e-6)
    assert scores.max() == 4.0


def test_seen_columns_are_left_out_unless_they_may_stay() -> None:
    completer = quick().fit(X, Y)
    seen = set(X[X[:, 0] == ROWS[0], 1])
    left = completer.recommend(ROWS[:1], k=len(COLUMNS)).ids[0]
    assert {one for one in left if one is not None} == set(COLUMNS) - seen
    assert set(completer.recommend(ROWS[:1], k=len(COLUMNS), exclude_seen=False).ids[0]) == set(COLUMNS)
    assert (
        completer.recommend(ROWS[:2], k=3).ids.shape
        == completer.recommend(ROWS[:2], k=3).scores.shape
        == (2, 3)
    )
    assert completer.recommend(ROWS[:1]).ids.shape == (1, 10)


def test_similarities_are_cosines_in_the_balanced_factors_of_the_product() -> None:
    completer = quick().fit(X, Y)
    left, values, right = np.linalg.svd(completer.model_.product().detach().double().numpy())
    root = np.sqrt(values[:4])  # of the hidden width; all others are rounding
    for ask, vectors, ids in (
        (completer.similar_items, right[:4].T * root, COLUMNS),
        (completer.similar_users, left[:, :4] * root, ROWS),
    ):
        found, cosines = ask(ids[:3], k=4)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        expected = unit[:3] @ unit.T
        expected[np.arange(3), np.arange(3)] = -np.inf  # an id is not similar to itself
        np.testing.assert_allclose(cosines, np.sort(expected)[:, ::-1][:, :4], atol=1e-4)
        places = np.searchsorted(ids, found.astype(np.int64))
        np.testing.assert_allclose(np.take_along_axis(expected, places, 1), cosines, atol=1e-4)
