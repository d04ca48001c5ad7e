"""Similar columns and rows: cosines of balanced factors."""

from __future__ import annotations

import pytest
import torch

from dmf_fast.serving import TwoFactors, similar_columns, similar_rows


def drawn_factors() -> TwoFactors:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((20, 4), (4, 30)))
    return TwoFactors(a, b)


def cosines(lines: torch.Tensor) -> torch.Tensor:
    between = torch.nn.functional.cosine_similarity(lines[:, None], lines[None], dim=2)
    return between.fill_diagonal_(-torch.inf)


def test_the_largest_cosines_come_first_without_the_line_itself() -> None:
    two_factors = drawn_factors()
    left, values, right = torch.linalg.svd(two_factors.a @ two_factors.b)
    roots = values[:4].sqrt()
    for similar, lines in ((similar_rows, left[:, :4] * roots), (similar_columns, right[:4].T * roots)):
        expected = cosines(lines).topk(5)
        nearest = similar(two_factors, range(len(lines)), 5)
        assert torch.equal(nearest.indices, expected.indices)
        torch.testing.assert_close(nearest.similarities, expected.values)


def test_the_answer_does_not_depend_on_how_predictions_are_factored() -> None:
    two_factors = drawn_factors()
    mixing = torch.diag(torch.tensor([1.0, 5.0, 0.2, 30.0], dtype=torch.float64))
    mixing[0, 3] = 2.0
    other = TwoFactors(two_factors.a @ mixing, torch.linalg.inv(mixing) @ two_factors.b)
    first, second = similar_columns(two_factors, [3, 9]), similar_columns(other, [3, 9])
    assert torch.equal(first.indices, second.indices)
    torch.testing.assert_close(first.similarities, second.similarities)


def test_zero_factors_are_like_nothing() -> None:
    two_factors = TwoFactors(torch.eye(2), torch.tensor([[1.0, 0.0, 2.0, -1.0], [1.0, 0.0, 2.0, -1.0]]))
    nearest = similar_columns(two_factors, [0, 1], 3)
    assert nearest.indices.tolist() == [[2, 1, 3], [0, 2, 3]]
    assert nearest.similarities[1].tolist() == [0.0, 0.0, 0.0]
    torch.testing.assert_close(nearest.similarities[0], torch.tensor([1.0, 0.0, -1.0]))


def test_where_there_are_fewer_others_minus_one_stands() -> None:
    assert similar_rows(TwoFactors(torch.ones(1, 1), torch.ones(1, 3)), [0], 2).indices.tolist() == [[-1, -1]]


def test_indices_outside_are_refused() -> None:
    with pytest.raises(IndexError, match=r"`columns\[0\]` must be from 0 to 29, got 30"):
        similar_columns(drawn_factors(), [30])
    with pytest.raises(IndexError, match=r"`rows\[1\]` must be from 0 to 19, got -1"):
        similar_rows(drawn_factors(), [0, -1])
    with pytest.raises(ValueError, match="`k` must be at least 1"):
        similar_rows(drawn_factors(), [0], 0)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_factors_whose_squares_leave_float32_have_the_same_cosines(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=generator) for shape in ((6, 3), (3, 5)))
    expected, found = (similar_rows(TwoFactors(factor * a, factor * b), [0, 1], 5) for factor in (1, scale))
    assert torch.equal(found.indices, expected.indices)
    torch.testing.assert_close(found.similarities, expected.similarities)


def test_the_ten_nearest_are_returned_by_default() -> None:
    factors = TwoFactors(torch.ones(12, 1), torch.ones(1, 13))
    assert similar_rows(factors, [3]).indices.tolist() == [[0, 1, 2, 4, 5, 6, 7, 8, 9, 10]]
    assert similar_columns(factors, [0]).indices.tolist() == [list(range(1, 11))]
