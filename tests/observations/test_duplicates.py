"""Pairs that are given more than once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dmf_fast import Observations, _native

ROWS, COLUMNS = [1, 0, 1, 2, 0, 1], [2, 0, 2, 1, 0, 2]
VALUES = [1.0, 2.0, 3.0, 4.0, 6.0, 11.0]
WEIGHTS = [1.0, 0.5, 1.0, 3.0, 1.5, 2.0]


def merged(policy: Any, weights: Any = None) -> tuple[list[tuple[int, int]], list[float], Any]:
    observations = Observations(ROWS, COLUMNS, VALUES, weights=weights, duplicates=policy)
    pairs = list(zip(observations.rows.tolist(), observations.columns.tolist(), strict=True))
    got = observations.weights
    return pairs, observations.values.tolist(), None if got is None else got.tolist()


def test_the_first_duplicate_is_named_with_both_positions() -> None:
    with pytest.raises(ValueError, match=r"got \(1, 2\) at positions 0 and 2 \(3 repeats in total\)"):
        merged("error")


def test_first_keeps_the_first_entries_in_their_order() -> None:
    assert merged("first", WEIGHTS) == ([(1, 2), (0, 0), (2, 1)], [1.0, 2.0, 4.0], [1.0, 0.5, 3.0])


def test_last_keeps_the_last_entries_in_their_order() -> None:
    assert merged("last", WEIGHTS) == ([(2, 1), (0, 0), (1, 2)], [4.0, 6.0, 11.0], [3.0, 1.5, 2.0])


def test_mean_without_weights_is_plain() -> None:
    assert merged("mean") == ([(1, 2), (0, 0), (2, 1)], [5.0, 4.0, 4.0], None)


def test_mean_with_weights_is_weighted_and_sums_the_weights() -> None:
    pairs, values, weights = merged("mean", WEIGHTS)
    assert pairs == [(1, 2), (0, 0), (2, 1)]
    assert values == [(1 * 1 + 3 * 1 + 11 * 2) / 4, (2 * 0.5 + 6 * 1.5) / 2, 4.0]
    assert weights == [4.0, 2.0, 3.0]


def test_mean_of_entries_that_weigh_nothing_is_plain_and_weighs_nothing() -> None:
    observations = Observations([0, 0], [0, 0], [1.0, 3.0], weights=[0.0, 0.0], duplicates="mean")
    assert observations.values.tolist() == [2.0]
    assert observations.weights is not None
    assert observations.weights.tolist() == [0.0]


def test_sum_adds_the_values() -> None:
    assert merged("sum") == ([(1, 2), (0, 0), (2, 1)], [15.0, 8.0, 4.0], None)


def test_sum_keeps_weights_that_agree() -> None:
    assert merged("sum", [2.0, 1.0, 2.0, 3.0, 1.0, 2.0])[2] == [2.0, 1.0, 3.0]


def test_sum_refuses_weights_that_disagree() -> None:
    with pytest.raises(ValueError, match=r"`weights` of repeated pairs must agree.*got 1 and 2 for \(1, 2\)"):
        merged("sum", WEIGHTS)


def test_a_sum_beyond_the_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match=r"combine to a finite torch\.float16, got 120000 at position 0"):
        Observations([0, 0], [0, 0], [6e4, 6e4], duplicates="sum", dtype=torch.float16)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="`duplicates` must be one of 'error', 'first'"):
        Observations([0], [0], [1.0], duplicates="drop")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(60_000, 70_000), (70_000, 70_000), (2**40, 2**40)])
def test_duplicates_are_found_whatever_the_size_of_the_matrix(shape: tuple[int, int]) -> None:
    last = (shape[0] - 1, shape[1] - 1)
    with pytest.raises(ValueError, match="at positions 0 and 3"):
        Observations([last[0], 0, last[0], last[0]], [last[1], last[1], 0, last[1]], [1.0] * 4, shape)
    distinct = Observations([last[0], 0, last[0]], [last[1], last[1], 0], [1.0] * 3, shape)
    assert distinct.columns.tolist() == [last[1], last[1], 0]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(-50, 50)), min_size=1),
    st.sampled_from(["first", "last", "sum", "mean"]),
)
def test_merging_agrees_with_a_dictionary(entries: list[tuple[int, int, int]], policy: Any) -> None:
    groups: dict[tuple[int, int], list[int]] = {}
    for row, column, value in entries:
        groups.setdefault((row, column), []).append(value)
    choose = {"first": lambda g: g[0], "last": lambda g: g[-1], "sum": sum, "mean": np.mean}[policy]
    rows, columns, values = zip(*entries, strict=True)
    observations = Observations(rows, columns, values, (5, 4), duplicates=policy, dtype=torch.float64)
    got = dict(
        zip(
            zip(observations.rows.tolist(), observations.columns.tolist(), strict=True),
            observations.values.tolist(),
            strict=True,
        )
    )
    assert len(observations) == len(groups)
    assert got == {pair: pytest.approx(choose(group)) for pair, group in groups.items()}


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), max_size=40), st.integers(1, 4))
def test_a_repeated_pair_is_found_without_a_sort(pairs: list[tuple[int, int]], threads: int) -> None:
    rows, columns = np.array(pairs, dtype=np.int32).reshape(-1, 2).T.copy()
    repeats = len(set(pairs)) < len(pairs)
    assert _native.has_repeated_pairs(rows, columns, 7, 6, threads) == repeats
