"""The operator beside its readable twin, under torch's own checks, and bit for bit for any number of threads.

Small whole numbers make every sum exact in both dtypes, whatever its order: equality can be asked for, on all
instruction sets, and ties are many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dmf_fast import info, reference
from dmf_fast.serving import SeenColumns, TwoFactors, recommend, similar_columns
from dmf_fast.serving.top_columns import top_columns, top_columns_in_blocks
from tests.conftest import on_gpu


@dataclass(frozen=True)
class Problem:
    a: torch.Tensor
    b: torch.Tensor
    column_bias: torch.Tensor | None
    rows: torch.Tensor
    seen: torch.Tensor

    @property
    def lists(self) -> SeenColumns:
        return SeenColumns.of_pairs(*self.seen.nonzero(as_tuple=True), tuple(self.seen.shape))

    def best(self, k: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        bias = None if self.column_bias is None else self.column_bias.to(dtype)
        lists = self.lists
        return top_columns(
            self.a.to(dtype), self.b.to(dtype), bias, self.rows, lists.offsets, lists.columns, k
        )

    def expected(self, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        return reference.top_columns(self.a, self.b, self.column_bias, self.rows, self.seen, k)


def whole_numbers(
    shape: tuple[int, int], h: int, asked: int, seen: float = 0.2, bias: bool = True, seed: int = 0
) -> Problem:
    generator = torch.Generator().manual_seed(seed)

    def draw(*sizes: int) -> torch.Tensor:
        return torch.randint(-3, 4, sizes, generator=generator).double()

    m, n = shape
    return Problem(
        draw(m, h),
        draw(h, n),
        draw(n) if bias else None,
        torch.randint(m, (asked,), generator=generator),
        torch.rand(m, n, generator=generator) < seen,
    )


@settings(max_examples=150)
@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 150)),
    h=st.integers(1, 20),
    asked=st.integers(0, 40),
    k=st.integers(1, 200),
    seen=st.sampled_from([0.0, 0.3, 0.97, 1.0]),
    bias=st.booleans(),
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    instruction_set=st.sampled_from(info.available_instruction_sets()),
)
def test_the_best_columns_are_those_of_the_reference(
    shape: tuple[int, int],
    h: int,
    asked: int,
    k: int,
    seen: float,
    bias: bool,
    seed: int,
    dtype: torch.dtype,
    instruction_set: str,
) -> None:
    problem = whole_numbers(shape, h, asked, seen, bias, seed)
    before = info.active_instruction_set()
    info.set_instruction_set(instruction_set)
    try:
        columns, scores = problem.best(k, dtype)
    finally:
        info.set_instruction_set(before)
    expected_columns, expected_scores = problem.expected(k)
    assert columns.tolist() == expected_columns.tolist()
    assert scores.tolist() == expected_scores.tolist()


@pytest.mark.parametrize("scores_a_block", [1, 100, 1 << 24])
@pytest.mark.parametrize(("seen", "bias", "k"), [(0.3, True, 5), (0.97, False, 60), (1.0, True, 3)])
def test_torch_s_own_operators_in_blocks_give_what_the_operator_gives(
    seen: float, bias: bool, k: int, scores_a_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmf_fast.serving.top_columns._BLOCK_SCORES", scores_a_block)
    problem = whole_numbers((30, 40), 6, 25, seen, bias)
    lists = problem.lists
    arguments = (problem.a, problem.b, problem.column_bias, problem.rows)
    for seen_lists in ((lists.offsets, lists.columns), (None, None)):
        found = top_columns_in_blocks(*arguments, *seen_lists, k)
        for ours, expected in zip(found, top_columns(*arguments, *seen_lists, k), strict=True):
            assert torch.equal(ours, expected)


@pytest.mark.parametrize("find", [top_columns, top_columns_in_blocks])
def test_a_score_that_is_no_number_is_never_among_the_best(
    find: Callable[..., tuple[Tensor, Tensor]],
) -> None:
    b = torch.tensor([[1.0, torch.nan, 3.0, torch.nan, 2.0]])
    columns, scores = find(torch.ones(1, 1), b, None, torch.tensor([0]), None, None, 5)
    assert columns.tolist() == [[2, 4, 0, -1, -1]]
    assert scores.tolist() == [[3.0, 2.0, 1.0, -torch.inf, -torch.inf]]


@on_gpu
def test_on_a_gpu_the_best_columns_are_those_of_the_cpu() -> None:
    problem = whole_numbers((30, 40), 6, 25)
    two_factors = TwoFactors(problem.a, problem.b, None, problem.column_bias)
    expected, found = (
        recommend(factors, problem.rows, 5, seen=problem.lists)
        for factors in (two_factors, two_factors.to("cuda"))
    )
    assert torch.equal(found.columns, expected.columns)
    assert torch.equal(found.scores, expected.scores)
    nearest = similar_columns(two_factors.to("cuda"), range(40), 5).similarities
    torch.testing.assert_close(nearest, similar_columns(two_factors, range(40), 5).similarities)


# The operator is the CPU's alone.
on_the_cpu = pytest.mark.parametrize("backend", info.available_instruction_sets(), indirect=True)


@on_the_cpu
@pytest.mark.parametrize("h", [1023, 1024, 1025, 2000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wide_factors_give_the_best_columns_too(h: int, dtype: torch.dtype, backend: str) -> None:
    problem = whole_numbers((7, 900), h, 15)
    for ours, expected in zip(problem.best(10, dtype), problem.expected(10), strict=True):
        assert ours.tolist() == expected.tolist()


@on_the_cpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [10, 100])  # few are kept sorted, many are not
def test_results_are_bit_identical_for_any_number_of_threads(
    k: int, dtype: torch.dtype, backend: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(500, 33, generator=generator), torch.randn(33, 1000, generator=generator)
    rows, before, outcomes = torch.arange(500).repeat(2), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            outcomes.append(top_columns(a.to(dtype), b.to(dtype), None, rows, None, None, k))
    finally:
        torch.set_num_threads(before)
    for outcome in outcomes[1:]:
        assert all(torch.equal(first, other) for first, other in zip(outcomes[0], outcome, strict=True))
    columns, scores = outcomes[0]
    assert torch.equal(scores[:500], scores[500:])
    assert torch.equal(columns[:500], columns[500:])


def test_scores_that_are_no_numbers_are_left_out() -> None:
    a, b = torch.tensor([[1.0], [torch.nan]]), torch.tensor([[1.0, torch.nan, torch.inf, -torch.inf]])
    for find in (top_columns, top_columns_in_blocks):
        columns, scores = find(a, b, None, torch.tensor([0, 1]), None, None, 3)
        assert columns.tolist() == [[2, 0, -1], [-1, -1, -1]]
        assert scores.tolist() == [[torch.inf, 1.0, -torch.inf], [-torch.inf] * 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck_passes(dtype: torch.dtype) -> None:
    problem = whole_numbers((12, 40), 5, 9)
    bias, lists = problem.column_bias, problem.lists
    assert bias is not None
    seen = (lists.offsets, lists.columns)
    for given_bias, given_seen in ((bias.to(dtype), seen), (None, (None, None))):
        arguments = (problem.a.to(dtype), problem.b.to(dtype), given_bias, problem.rows, *given_seen, 4)
        torch.library.opcheck(torch.ops.dmf_fast.top_columns.default, arguments)


def test_wrong_arguments_are_refused_before_memory_is_touched() -> None:
    a, b, rows = torch.ones(3, 2), torch.ones(2, 4), torch.tensor([0])
    offsets, columns = torch.zeros(4, dtype=torch.int64), torch.zeros(0, dtype=torch.int32)
    wrong = {
        "float32 or float64": (a.half(), b.half(), None, rows, None, None, 1),
        "b must be two-dimensional with 2 rows": (a, b.T.contiguous(), None, rows, None, None, 1),
        "b must be contiguous": (a, b.T.contiguous().T, None, rows, None, None, 1),
        "one dtype": (a, b.double(), None, rows, None, None, 1),
        "column_bias must be one-dimensional with 4": (a, b, torch.ones(3), rows, None, None, 1),
        "rows has the wrong dtype": (a, b, None, rows.int(), None, None, 1),
        "given together": (a, b, None, rows, offsets, None, 1),
        "seen_offsets must be one-dimensional with 4": (a, b, None, rows, offsets[1:], columns, 1),
        "seen_columns has the wrong dtype": (a, b, None, rows, offsets, columns.long(), 1),
        "k must be from 1 to": (a, b, None, rows, None, None, 0),
    }
    for message, arguments in wrong.items():
        with pytest.raises(RuntimeError, match=message):
            top_columns(*arguments)
