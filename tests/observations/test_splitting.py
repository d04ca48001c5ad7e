"""Random splits that leave no row without a training entry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dmf_fast import Observations
from dmf_fast.distributed import RowBlocks
from dmf_fast.observations.splitting import random_order


@st.composite
def splits(draw: st.DrawFn) -> tuple[Observations, float, int]:
    rows, columns = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    cells = draw(st.lists(st.integers(0, rows * columns - 1), unique=True))
    places = np.array(cells, dtype=np.int64)
    observations = Observations(
        places // columns, places % columns, places, (rows, columns), weights=places / 2, dtype=torch.float64
    )
    return observations, draw(st.floats(0, 1)), draw(st.integers(0, 2**63 - 1))


@settings(deadline=None)
@given(splits())
def test_a_split_keeps_every_row_and_reaches_its_size_where_it_can(
    case: tuple[Observations, float, int],
) -> None:
    observations, fraction, seed = case
    train, test = observations.split(fraction, seed)
    used_rows = set(observations.rows.tolist())
    assert set(train.rows.tolist()) == used_rows
    assert len(test) == min(round(fraction * len(observations)), len(observations) - len(used_rows))
    assert train.shape == test.shape == observations.shape
    # The values number the cells, so they tell which entry went where and in which order.
    order = observations.values.tolist()
    in_train, in_test = train.values.tolist(), test.values.tolist()
    assert sorted(in_train + in_test) == sorted(order)
    assert [value for value in order if value in set(in_train)] == in_train
    assert [value for value in order if value in set(in_test)] == in_test
    for part in (train, test):
        assert torch.equal(part.rows * observations.shape[1] + part.columns, part.values.long())
        assert part.weights is not None
        assert torch.equal(part.weights, part.values / 2)


def test_a_split_depends_on_the_seed_alone() -> None:
    cells = np.random.default_rng(0).permutation(600)[:150]
    observations = Observations(cells // 20, cells % 20, cells, (30, 20))
    first = observations.split(0.3, seed=5)
    observations.layout()
    again = observations.to(dtype=torch.float16).split(0.3, seed=5)
    other = observations.split(0.3, seed=6)
    assert all(torch.equal(a.rows, b.rows) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1].values, other[1].values)


def test_a_split_is_nearly_uniform_over_long_and_short_rows() -> None:
    lengths = np.array([2] * 2000 + [40] * 100)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    columns = np.concatenate([np.arange(length) for length in lengths])
    _, test = Observations(rows, columns, rows).split(0.1, seed=0)
    # In a plain split a short row loses both entries once in a hundred times: that is all that may differ.
    share_of_short = float((test.rows < 2000).sum()) / 4000
    assert share_of_short == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1.5, 0), ValueError, "`test_fraction` must be in"),
        ((float("nan"), 0), ValueError, "`test_fraction` must be in"),
        (("many", 0), TypeError, "`test_fraction` must be a number"),
        ((0.2, 1.0), TypeError, "`seed` must be an integer"),
        ((0.2, -1), ValueError, "`seed` must be from 0"),
    ],
)
def test_a_split_refuses_bad_arguments(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Observations([0, 1], [0, 1], [1.0, 2.0]).split(*arguments)


@pytest.mark.parametrize(("count", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_a_number_of_parts_or_folds_must_be_a_positive_integer(count: Any, error: type[Exception]) -> None:
    observations = Observations([0, 1], [0, 1], [1.0, 2.0])
    for every in (observations, RowBlocks([observations])):
        with pytest.raises(error, match="`count` must be"):
            every.partition(count, seed=0)
        with pytest.raises(error, match="`count` must be"):
            every.folds(0.5, count, seed=0)


@given(st.integers(0, 20_000), st.integers(0, 30_000), st.integers(0, 5))
def test_an_order_has_different_places_and_as_many_as_are_wanted(count: int, first: int, seed: int) -> None:
    order = random_order(count, first, seed)
    assert len(order) == min(count, first)
    assert len(np.unique(order)) == len(order)
    assert ((order >= 0) & (order < count)).all()


@pytest.mark.parametrize("first", [3_000, 40_000])  # few of all, and so many that all are permuted
def test_every_place_is_as_likely_as_any_other(first: int) -> None:
    counts = np.zeros(10, dtype=np.int64)
    for seed in range(20):
        counts += np.bincount(random_order(100_000, first, seed) // 10_000, minlength=10)
    assert counts / counts.sum() == pytest.approx(np.full(10, 0.1), abs=0.01)
