"""The best row of a run, and the rows that the patience counts."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from dmf_fast import Observations
from dmf_fast.training import FitOptions, Recording, fit
from dmf_fast.training.best import Best

FIRST_LOSS = 1.0


def after(*rows: tuple[int, float, float | None], patience_after: int = 0) -> Best:
    """Return what is best after rows of a step, a train loss and a validation RMSE each."""
    best = Best()
    for step, loss, rmse in rows:
        row = {"step": step, "train_loss": loss, "validation_rmse": rmse}
        best = best.after(row, FIRST_LOSS, patience_after=patience_after)
    return best


def test_of_equal_errors_the_earlier_step_is_the_best_and_the_later_counts() -> None:
    best = after((10, 0.5, 0.75), (20, 0.4, 0.5), (30, 0.3, 0.5), (40, 0.2, 0.5))
    assert (best.step, best.rmse, best.rows_since) == (20, 0.5, 2)


def test_a_better_row_restarts_the_count() -> None:
    best = after((10, 0.5, 0.5), (20, 0.4, 0.6), (30, 0.3, 0.4), (40, 0.2, 0.7))
    assert (best.step, best.rows_since) == (30, 1)


def test_rows_before_the_step_that_the_patience_begins_with_may_be_best_but_do_not_count() -> None:
    rows = ((10, 0.5, 0.5), (20, 0.4, 0.6), (29, 0.3, 0.6), (30, 0.3, 0.6), (31, 0.2, 0.6))
    assert (after(*rows).step, after(*rows).rows_since) == (10, 4)
    later = after(*rows, patience_after=30)
    assert (later.step, later.rows_since, later.rows_at_rest) == (10, 2, 0)


def test_a_run_has_moved_where_its_loss_has_changed_by_more_than_a_hundredth_either_way() -> None:
    assert after((0, 1.0, 0.5), (1, 0.992, 0.5), (2, 1.008, 0.5)) == Best(0, 0.5, 0, 2, False)
    for moved in (0.988, 1.012):
        # It stays moved, wherever the loss goes afterwards.
        best = after((0, 1.0, 0.5), (1, 1.0, 0.5), (2, moved, 0.5), (3, 1.0, 0.5))
        assert best == Best(0, 0.5, 2, 1, True)


def test_a_run_that_moves_before_the_patience_begins_has_moved() -> None:
    assert after((0, 1.0, 0.5), (1, 0.5, 0.6), (2, 1.0, 0.6), patience_after=2) == Best(0, 0.5, 1, 0, True)


def test_a_row_without_an_error_changes_nothing() -> None:
    assert after((0, 1.0, 0.5), (1, 0.5, None)) == Best(0, 0.5, 0, 0, False)


@pytest.mark.parametrize(
    ("since", "at_rest", "over"), [(2, 0, False), (3, 0, True), (0, 14, False), (0, 15, True), (2, 14, False)]
)
def test_it_is_over_after_as_many_rows_as_the_patience_or_five_times_as_many_at_rest(
    since: int, at_rest: int, over: bool
) -> None:
    assert Best(0, 0.5, since, at_rest).is_over(3) == over


def flat(**options: int) -> list[int]:
    """Return the recorded steps, the best first, of a run whose validation error never changes."""
    train, validation = Observations([0], [0], [1.0], (2, 2)), Observations([1], [1], [3.0], (2, 2))
    result = fit(
        [0.5 * torch.eye(2)],
        train,
        partial(torch.optim.SGD, lr=0.1),
        FitOptions(steps=1_000, **options),
        recording=Recording(every=10),
        validation=validation,
    )
    assert result.best_step is not None
    assert result.stopped_because == "patience"
    return [result.best_step, *result.history["step"]]


def test_the_first_of_equal_rows_is_restored_and_patience_ends_the_run_so_many_rows_later() -> None:
    assert flat(patience=3) == [0, 0, 10, 20, 30]


def test_patience_that_begins_at_a_step_counts_the_row_of_that_step() -> None:
    assert flat(patience=3, patience_after=50) == [0, 0, 10, 20, 30, 40, 50, 60, 70]
    assert flat(patience=3, patience_after=51)[-1] == 80
