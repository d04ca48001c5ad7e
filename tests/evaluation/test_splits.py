"""Folds, splits by time, and the last entries of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dmf_fast import Observations
from dmf_fast.evaluation import RatingErrors, Split, kfold, leave_last_out, time_split


@st.composite
def numbered(draw: st.DrawFn) -> Observations:
    """Entries whose values are their positions, with weights half as large."""
    shape = draw(st.integers(1, 9)), draw(st.integers(2, 9))
    cells = draw(st.lists(st.integers(0, shape[0] * shape[1] - 1), unique=True, min_size=2))
    places, order = np.array(cells), np.arange(len(cells))
    return Observations(
        places // shape[1], places % shape[1], order, shape, weights=order / 2, dtype=torch.float64
    )


def check_follows(whole: Observations, split: Split) -> None:
    """Every entry is in one part, in its order, with its place, value and weight."""
    both = np.concatenate((split.train_positions, split.test_positions))
    assert sorted(both.tolist()) == list(range(len(whole)))
    for part, positions in zip(split, (split.train_positions, split.test_positions), strict=True):
        assert (np.diff(positions) > 0).all()
        assert part.shape == whole.shape
        assert part.dtype == whole.dtype
        assert torch.equal(part.values, torch.from_numpy(positions).double())
        assert part.weights is not None
        assert torch.equal(part.weights, part.values / 2)
        assert torch.equal(part.rows, whole.rows[positions])
        assert torch.equal(part.columns, whole.columns[positions])


@given(numbered(), st.data())
def test_every_entry_is_in_exactly_one_test_fold_and_folds_are_of_one_size(
    observations: Observations, data: st.DataObject
) -> None:
    folds = data.draw(st.integers(2, len(observations)))

    splits = list(kfold(observations, folds, seed=3))

    assert len(splits) == folds
    tested = np.concatenate([split.test_positions for split in splits])
    assert sorted(tested.tolist()) == list(range(len(observations)))
    sizes = [len(split.test) for split in splits]
    assert max(sizes) - min(sizes) <= 1
    for split in splits:
        check_follows(observations, split)


def test_folds_depend_on_the_seed_alone(threads: int) -> None:
    cells = np.random.default_rng(0).permutation(6000)[:1500]
    observations = Observations(cells // 20, cells % 20, cells, (300, 20), dtype=torch.float64)

    def folds(of: Observations, seed: int) -> list[list[int]]:
        return [split.test_positions.tolist() for split in kfold(of, 4, seed)]

    first = folds(observations, 5)
    observations.layout()
    assert folds(observations.to(dtype=torch.float32), 5) == first
    assert folds(observations, 6) != first
    # What torch documents: a generator's draws follow from its seed.
    order = torch.randperm(1500, generator=torch.Generator().manual_seed(5))
    assert first[0] == sorted(order[::4].tolist())


def test_errors_of_folds_add_up_to_those_of_all_entries() -> None:
    observations = Observations([0, 0, 1, 1, 2], [0, 1, 0, 1, 0], [1.0, 2.0, 3.0, 4.0, 5.0])
    errors = (RatingErrors.of([3.0] * len(test), test.values) for _, test in kfold(observations, 2, seed=0))

    assert sum(errors, start=RatingErrors()) == RatingErrors(5, 5.0, 10.0, 6.0)


@given(numbered(), st.floats(0, 1), st.data())
def test_a_time_split_tests_on_the_latest_entries_and_position_decides_ties(
    observations: Observations, fraction: float, data: st.DataObject
) -> None:
    size = len(observations)
    times = data.draw(st.lists(st.integers(-3, 3), min_size=size, max_size=size))

    split = time_split(observations, times, fraction)

    check_follows(observations, split)
    assert len(split.test) == round(fraction * size)
    moments = [(time, position) for position, time in enumerate(times)]
    latest = sorted(moments)[size - len(split.test) :]
    assert split.test_positions.tolist() == sorted(position for _, position in latest)


@given(numbered(), st.integers(1, 4), st.data())
def test_leaving_the_last_out_tests_on_the_last_of_every_row_and_keeps_its_first(
    observations: Observations, count: int, data: st.DataObject
) -> None:
    size = len(observations)
    times = data.draw(st.none() | st.lists(st.integers(-3, 3), min_size=size, max_size=size))

    split = leave_last_out(observations, times, count)

    check_follows(observations, split)
    expected = []
    for row in range(observations.shape[0]):
        positions = np.flatnonzero(observations.rows.numpy() == row).tolist()
        in_time = sorted(positions, key=lambda position: (times or [0] * size)[position])
        expected += in_time[1:][-count:]
    assert split.test_positions.tolist() == sorted(expected)


@pytest.mark.parametrize(
    "times",
    [
        np.array(["2001-01-03", "2001-01-01", "2001-01-02"], dtype="datetime64[D]"),
        np.array([3.5, -1.0, 0.25]),
        torch.tensor([2**62 + 2, 2**62, 2**62 + 1]),
        np.array([3, 1, 2], dtype=np.uint8),
    ],
)
def test_times_of_any_kind_are_compared_exactly(times: Any) -> None:
    observations = Observations([0, 1, 2], [0, 1, 2], [1.0, 2.0, 3.0])

    assert time_split(observations, times, 1 / 3).test_positions.tolist() == [0]


@pytest.mark.parametrize(
    ("split", "error", "message"),
    [
        (lambda o: kfold(o, 1, 0), ValueError, "`folds` must be at least 2"),
        (lambda o: kfold(o, 4, 0), ValueError, "`folds` must be at most 3"),
        (lambda o: kfold(o, 2, -1), ValueError, "`seed` must be at least 0"),
        (lambda o: kfold(o, 2.5, 0), TypeError, "`folds` must be a whole number"),
        (lambda o: time_split(o, [1, 2], 0.5), ValueError, "`times` must hold one number for each of the 3"),
        (
            lambda o: time_split(o, [1, 2, np.nan], 0.5),
            ValueError,
            r"`times` must not be missing, got times\[2\] missing",
        ),
        (lambda o: time_split(o, ["a", "b", "c"], 0.5), TypeError, "`times` must hold integers"),
        (lambda o: time_split(o, [[1, 2, 3]], 0.5), ValueError, "`times` must be one-dimensional"),
        (lambda o: time_split(o, [1, 2, 3], 20), ValueError, "`fraction` must be in"),
        (lambda o: time_split(o, [1, 2, 3], "half"), TypeError, "`fraction` must be a number"),
        (lambda o: leave_last_out(o, count=0), ValueError, "`count` must be at least 1"),
    ],
)
def test_wrong_arguments_are_refused(split: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        split(Observations([0, 0, 0], [0, 1, 2], [1.0, 2.0, 3.0]))


def test_a_single_entry_cannot_be_folded_and_stays_in_training() -> None:
    single = Observations([0], [0], [1.0])

    with pytest.raises(ValueError, match="`observations` must hold at least 2 entries"):
        kfold(single, 2, 0)
    assert [len(part) for part in leave_last_out(single)] == [1, 0]


@pytest.mark.parametrize("fraction", [-1.0, -1e-9, 1.0 + 1e-9])
def test_a_part_is_between_none_and_all(fraction: float) -> None:
    observations = Observations([0, 1], [0, 1], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"`fraction` must be in \[0, 1\], got"):
        time_split(observations, [1, 2], fraction)
    assert [len(time_split(observations, [1, 2], part).test) for part in (0.0, 1.0)] == [0, 2]
