"""Recommendations for many rows: complete, flagged where there are fewer, and never what was seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dmf_fast import DeepMatrixFactorization, Observations
from dmf_fast.serving import Predictor, SeenColumns, TwoFactors, collapse, recommend

SHAPE = (30, 40)


def drawn_factors(dtype: torch.dtype = torch.float64, bias: bool = True) -> TwoFactors:
    generator = torch.Generator().manual_seed(0)
    m, n = SHAPE
    a, b, row_bias, column_bias = (
        torch.randn(*sizes, generator=generator, dtype=dtype) for sizes in ((m, 5), (5, n), (m,), (n,))
    )
    return TwoFactors(a, b, row_bias if bias else None, column_bias if bias else None, 3.25)


def drawn_seen() -> Observations:
    mask = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) < 0.4
    mask[7] = True
    mask[8] = torch.arange(SHAPE[1]) > 2
    return Observations.from_dense(torch.ones(SHAPE), mask)


def dense(two_factors: TwoFactors) -> torch.Tensor:
    product = two_factors.a @ two_factors.b + two_factors.mean
    if two_factors.row_bias is not None and two_factors.column_bias is not None:
        product += two_factors.row_bias[:, None] + two_factors.column_bias
    return product


@pytest.mark.parametrize("bias", [True, False])
def test_the_highest_predictions_among_the_unseen_come_first(bias: bool) -> None:
    two_factors, seen = drawn_factors(bias=bias), drawn_seen()
    predictions = dense(two_factors)
    predictions[seen.rows, seen.columns] = -torch.inf
    expected, places = predictions.topk(6)
    rows = torch.tensor([3, 7, 3, 29, 0, 8])

    best = recommend(two_factors, rows, 6, seen=SeenColumns.of(seen))

    torch.testing.assert_close(best.scores, expected[rows])
    assert torch.equal(best.columns, torch.where(expected == -torch.inf, -1, places)[rows])
    assert best.counts.tolist() == [6, 0, 6, 6, 6, 3]
    assert best.known.all()


def test_observations_and_their_lists_leave_out_the_same() -> None:
    two_factors, seen = drawn_factors(), drawn_seen()
    by_lists = recommend(two_factors, range(30), seen=SeenColumns.of(seen))
    assert torch.equal(recommend(two_factors, range(30), seen=seen).columns, by_lists.columns)


def test_more_than_there_is_gives_all_and_then_minus_one() -> None:
    best = recommend(drawn_factors(), [4], 100)
    assert best.columns.shape == (1, 100)
    assert sorted(best.columns[0, :40].tolist()) == list(range(40))
    assert set(best.columns[0, 40:].tolist()) == {-1}
    assert set(best.scores[0, 40:].tolist()) == {-torch.inf}


def test_an_unknown_row_gets_what_has_the_highest_bias_and_is_flagged() -> None:
    two_factors = drawn_factors(torch.float32)
    bias = two_factors.column_bias
    assert bias is not None

    best = recommend(two_factors, [-1, 2, -1], 45, seen=drawn_seen())

    order = bias.argsort(descending=True)
    assert best.known.tolist() == [False, True, False]
    for place in (0, 2):
        assert torch.equal(best.columns[place, :40], order)
        torch.testing.assert_close(best.scores[place, :40], bias[order] + 3.25)
        assert set(best.columns[place, 40:].tolist()) == {-1}
    assert torch.equal(best.columns[1], recommend(two_factors, [2], 45, seen=drawn_seen()).columns[0])


def test_columns_with_equal_predictions_come_in_rising_order_for_known_and_unknown_rows() -> None:
    factors = TwoFactors(
        torch.zeros(1, 1), torch.ones(1, 6), torch.ones(1), torch.tensor([1.0, 2, 2, 1, 2, 0])
    )
    best = recommend(factors, [0, -1], 6)
    assert best.columns.tolist() == [[1, 2, 4, 0, 3, 5]] * 2
    assert recommend(factors, [0, -1], 2).columns.tolist() == [[1, 2]] * 2
    # A row has its own bias besides; nothing is known of the other.
    assert best.scores.tolist() == [[3, 3, 3, 2, 2, 1], [2, 2, 2, 1, 1, 0]]


@pytest.mark.parametrize("clip", [True, False])
def test_recommendations_are_the_predictions_clipped_where_these_are_in_the_order_before(clip: bool) -> None:
    model = DeepMatrixFactorization.of_factors(
        [torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[1.0], [2.0]])]
    )
    predictor = Predictor(model, 2.0, 1.5, 4.0, clip)
    best = recommend(collapse(model), [0, 1], 4)
    assert best.columns.tolist() == [[3, 2, 1, 0]] * 2
    shown = predictor.clipped(best.scores.double().numpy())
    assert shown.tolist() == ([[4, 3, 2, 1.5], [4, 4, 4, 2]] if clip else [[4, 3, 2, 1], [8, 6, 4, 2]])
    rows = np.repeat([0, 1], 4)
    assert predictor.predict(rows, best.columns.flatten()).values.tolist() == shown.flatten().tolist()


def test_without_biases_an_unknown_row_gets_nothing() -> None:
    best = recommend(drawn_factors(bias=False), [-1], 3)
    assert best.columns.tolist() == [[-1, -1, -1]]
    assert best.counts.tolist() == [0]


@pytest.mark.parametrize("rows", [[], np.empty(0, np.int32), torch.empty(0, dtype=torch.int64)])
def test_no_rows_give_no_recommendations(rows: object) -> None:
    assert recommend(drawn_factors(), rows, 3).columns.shape == (0, 3)


def test_one_row_and_one_column_are_enough() -> None:
    one = TwoFactors(torch.ones(1, 1), torch.ones(1, 1))
    assert recommend(one, [0], 2).columns.tolist() == [[0, -1]]
    assert recommend(one, [0], 2, seen=SeenColumns.of_pairs([0], [0], (1, 1))).counts.tolist() == [0]


@pytest.mark.parametrize(
    ("rows", "k", "seen", "error", "message"),
    [
        ([30], 3, None, IndexError, r"`rows\[0\]` must be from 0 to 29, or -1 for an unknown id, got 30"),
        ([0, -2], 3, None, IndexError, r"rows\[1\]"),
        ([0.5], 3, None, TypeError, "`rows` must hold integers"),
        (4, 3, None, ValueError, "`rows` must be one-dimensional"),
        ([0], 0, None, ValueError, "`k` must be at least 1"),
        ([0], 2.5, None, TypeError, "`k` must be a whole number"),
        ([0], 3, [[0, 1]], TypeError, "`seen` must be SeenColumns, Observations or None, got list"),
        (
            [0],
            3,
            SeenColumns.of_pairs([], [], (30, 41)),
            ValueError,
            r"shape of the model, \(30, 40\), got \(30, 41\)",
        ),
    ],
)
def test_what_cannot_be_recommended_from_is_refused(
    rows: object, k: object, seen: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        recommend(drawn_factors(), rows, k, seen=seen)
