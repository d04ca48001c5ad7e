"""Item filters: only some columns, or all but some; compared with the dense matrix, best first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dmf_fast.serving import Recommendations, SeenColumns, TwoFactors, recommend
from tests.conftest import on_gpu


def whole_factors(m: int, n: int, seed: int, *, bias: bool) -> TwoFactors:
    """Factors of small whole numbers, whose scores are exact and tie often."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*sizes: int) -> torch.Tensor:
        return torch.randint(-2, 3, sizes, generator=generator).float()

    return TwoFactors(draw(m, 3), draw(3, n), draw(m) if bias else None, draw(n) if bias else None, 0.5)


def expected(
    factors: TwoFactors, rows: list[int], k: int, allowed: torch.Tensor
) -> tuple[list[list[int]], list[list[float]]]:
    """Sort the dense matrix; ``allowed`` is (rows + 1, n), its last row that of an unknown id."""
    scores = torch.cat([factors.a @ factors.b, torch.zeros(1, factors.shape[1])]) + factors.mean
    if factors.row_bias is not None and factors.column_bias is not None:
        scores += torch.cat([factors.row_bias, torch.zeros(1)])[:, None] + factors.column_bias
    else:
        allowed = allowed.clone()
        allowed[-1] = False  # nothing is known of it
    columns: list[list[int]] = []
    found: list[list[float]] = []
    for row in rows:
        left = allowed[row].nonzero()[:, 0].tolist()
        best = sorted(left, key=lambda column: (-float(scores[row, column]), column))[:k]
        missing = k - len(best)
        columns.append(best + [-1] * missing)
        found.append([float(scores[row, column]) for column in best] + [-np.inf] * missing)
    return columns, found


@settings(max_examples=150)
@given(
    m=st.integers(1, 8),
    n=st.integers(1, 40),
    k=st.integers(1, 50),
    bias=st.booleans(),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_recommendations_are_the_best_of_what_the_filters_leave(
    m: int, n: int, k: int, bias: bool, seed: int, data: st.DataObject
) -> None:
    factors = whole_factors(m, n, seed, bias=bias)
    some = st.none() | st.lists(st.integers(-1, n - 1), max_size=2 * n)
    candidates, exclude = data.draw(some), data.draw(some)
    rows = data.draw(st.lists(st.integers(-1, m - 1), max_size=10))
    seen = torch.rand(m + 1, n, generator=torch.Generator().manual_seed(seed)) < data.draw(
        st.sampled_from([0.0, 0.3, 0.9])
    )
    seen[-1] = False
    allowed = ~seen
    if candidates is not None:
        allowed &= torch.tensor([column in candidates for column in range(n)])
    if exclude is not None:
        allowed &= torch.tensor([column not in exclude for column in range(n)])

    best = recommend(
        factors,
        rows,
        k,
        seen=SeenColumns.of_pairs(*seen[:-1].nonzero(as_tuple=True), (m, n)),
        candidates=candidates,
        exclude=exclude,
    )

    assert (best.columns.tolist(), best.scores.tolist()) == expected(factors, rows, k, allowed)
    assert best.known.tolist() == [row >= 0 for row in rows]


@pytest.mark.parametrize(
    "filters", [{"candidates": []}, {"exclude": range(5)}, {"candidates": [1, 1, -1], "exclude": [1]}]
)
def test_where_everything_is_filtered_nothing_is_left(filters: dict[str, Any]) -> None:
    best = recommend(whole_factors(3, 5, 0, bias=True), [0, -1, 2], 4, **filters)
    assert best.columns.tolist() == [[-1] * 4] * 3
    assert best.scores.tolist() == [[-np.inf] * 4] * 3
    assert best.scores.dtype == torch.float32
    assert best.known.tolist() == [True, False, True]


@pytest.mark.parametrize("name", ["candidates", "exclude"])
@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ([5], IndexError, r"\[0\]` must be from 0 to 4, or -1 for an unknown id, got 5"),
        ([0, -2], IndexError, r"\[1\]` must be from 0 to 4"),
        ([0.5], TypeError, "` must hold integers"),
        (3, ValueError, "` must be one-dimensional"),
        ([[1]], ValueError, "` must be one-dimensional"),
    ],
)
def test_filters_that_name_no_columns_are_refused(
    name: str, columns: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"`{name}{message}"):
        recommend(whole_factors(3, 5, 0, bias=True), [0], 4, **{name: columns})


@on_gpu
def test_filters_on_a_gpu_leave_what_they_leave_on_the_cpu() -> None:
    factors, seen = whole_factors(8, 40, 1, bias=True), SeenColumns.of_pairs([0, 0, 3], [1, 7, 7], (8, 40))

    def best(factors: TwoFactors) -> Recommendations:
        return recommend(factors, range(-1, 8), 9, seen=seen, candidates=range(5, 30), exclude=[6, 8])

    assert torch.equal(best(factors.to("cuda")).columns, best(factors).columns)
    assert torch.equal(best(factors.to("cuda")).scores, best(factors).scores)


def test_what_rows_have_seen_within_some_columns() -> None:
    seen = SeenColumns.of_pairs([0, 0, 2, 2, 3], [1, 4, 0, 4, 4], (4, 6))
    within = seen.within(torch.tensor([3, 0, 1, 3]), torch.tensor([1, 3, 4]))
    assert within.shape == (4, 3)
    assert [part.tolist() for part in torch.tensor_split(within.columns, within.offsets[1:-1])] == [
        [2],
        [0, 2],
        [],
        [2],
    ]
