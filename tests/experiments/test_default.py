"""The paper's setting: depth recovers a matrix that a shallow factorization does not."""

from __future__ import annotations

import pytest

from dmf_fast.completion import PAPER, CompletedMatrix
from dmf_fast.experiments import PaperSetting, run


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.slow)])
def runs(request: pytest.FixtureRequest) -> dict[int, CompletedMatrix]:
    """The runs of one seed by depth; the command line's tests run seed 0."""
    return {one.options.depth: one for one in run(PaperSetting(seed=request.param))}


def test_both_depths_fit_the_observed_entries(runs: dict[int, CompletedMatrix]) -> None:
    assert set(runs) == {2, 3}
    assert all(one.train_loss <= 1e-6 for one in runs.values())


def test_depth_3_recovers_the_matrix_and_depth_2_does_not(runs: dict[int, CompletedMatrix]) -> None:
    errors = {depth: one.reconstruction_mse for depth, one in runs.items()}

    assert errors[3] is not None
    assert errors[2] is not None
    assert errors[3] < 1e-3
    assert errors[2] > 1e-2


def test_the_recovered_matrix_has_five_large_singular_values(runs: dict[int, CompletedMatrix]) -> None:
    singular_values = runs[3].model.singular_values(6).tolist()

    assert singular_values[5] < 0.01 * singular_values[4]


def test_the_error_over_the_whole_matrix_agrees_with_train_and_test(runs: dict[int, CompletedMatrix]) -> None:
    one = runs[2]

    assert one.test_rmse is not None
    expected = (2_000 * one.train_loss + 8_000 * one.test_rmse**2) / 10_000
    assert one.reconstruction_mse == pytest.approx(expected, rel=1e-4)


def test_each_run_is_reported_as_it_ends() -> None:
    training = PAPER.changed({"steps": 2})
    short = PaperSetting(rows=8, columns=8, rank=1, observed=30, depths=(1, 2), training=training)
    seen: list[int] = []

    run(short, after_run=lambda one: seen.append(one.options.depth))

    assert seen == [1, 2]
