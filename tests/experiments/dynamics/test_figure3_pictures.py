"""Figure 3: what is drawn and tabulated is what was measured, and the problems have the sizes of the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from dmf_fast import Observations
from dmf_fast.experiments.dynamics import figure3, figure3_pictures
from dmf_fast.experiments.dynamics.singular_dynamics import LEADING, DynamicsProblem
from tests.experiments.pictures import curves, legends, panels

pytestmark = pytest.mark.usefixtures("figures")


def states(depth: int) -> pa.Table:
    """Three states of which the first is the start; the velocities are twice those of the theorem."""
    values = np.array([[0.0] * LEADING, [8.0] * LEADING, [1.0] * LEADING])
    predicted = depth * values ** (2 - 2 / depth) * 5.0  # the gradient's component is 5
    return pa.table({
        "step": [0, 10, 20],
        "time": [0.0, 1.0, 2.0],
        "train_loss": [9.0, 4.0, 1.0],
        "effective_rank": [5.0, 4.0, 3.0],
        "singular_values": [[place * time for place in range(LEADING, 0, -1)] for time in (0.0, 1.0, 2.0)],
        "diagonal": [7.0, 4.0, 2.0],
        "off_diagonal": [7.0, 1.0, 1.0],
        "diagonal_of_all": [7.0, 3.0, 2.0],
        "off_diagonal_of_all": [7.0, 1.5, 0.5],
        "test_rmse": [9.0, 8.0, 0.5],
        "relative_balancedness": [0.0, 3e-3, 2e-3],
        "middle_values": values.tolist(),
        "measured": (2 * predicted).tolist(),
        "predicted": predicted.tolist(),
    })  # fmt: skip


def test_dynamics_are_drawn_against_time() -> None:
    figure = panels(figure3_pictures.draw_dynamics("a matrix", {1: states(1), 2: states(2)}, "log"))
    assert legends(figure) == [2]
    for axes in figure[:2]:
        assert [np.asarray(line.get_ydata()).tolist() for line in axes.lines] == [
            [0.0, place, 2.0 * place] for place in range(LEADING, 0, -1)
        ]
        assert axes.get_yscale() == "log"
    assert [axes.get_ylabel() for axes in figure] == [
        "singular values", "", "mean size in $U^T \\nabla\\ell(W)\\,V$", "",
    ]  # fmt: skip
    assert [axes.get_title() for axes in figure] == ["depth 1", "depth 2", "", ""]
    for axes in figure[2:]:
        assert curves(axes) == {
            "diagonal": ([1.0, 2.0], [4.0, 2.0]), "off it": ([1.0, 2.0], [1.0, 1.0]),
            "diagonal, all vectors": ([1.0, 2.0], [3.0, 2.0]),
            "off it, all vectors": ([1.0, 2.0], [1.5, 0.5]),
        }  # fmt: skip


@pytest.mark.parametrize(("depth", "at_8", "wrong_at_8"), [(2, 2 * 8, 2 * 16), (3, 3 * 16, 3 * 8**1.5)])
def test_velocities_are_drawn_over_what_moves_them(depth: int, at_8: float, wrong_at_8: float) -> None:
    velocities, balancedness = panels(figure3_pictures.draw_theory({1: states(1), depth: states(depth)}))
    assert legends([velocities, balancedness]) == [0, 1]
    assert velocities.get_ylabel() == "velocity per unit of gradient"
    found = curves(velocities)
    assert found["measured"][0] == [8.0] * LEADING + [1.0] * LEADING
    assert found["measured"][1] == pytest.approx([2.0 * at_8] * LEADING + [2.0 * depth] * LEADING)
    for label, value in (("theorem 3", at_8), (f"exponent of depth {depth + 1}", wrong_at_8)):
        x, y = found[label]
        assert (x[0], x[-1]) == pytest.approx((1.0, 8.0))
        assert (y[0], y[-1]) == pytest.approx((depth, value))
    assert curves(balancedness) == {f"depth {depth}": ([1.0, 2.0], [3e-3, 2e-3])}


def test_the_table_of_figure_3_says_where_runs_end_and_what_they_did() -> None:
    problem = figure3.synthetic(quick=True)
    (row,) = figure3._table(problem, {2: states(2)}).to_pylist()
    assert row == {
        "depth": 2, "learning_rate": 4 * 2e-4, "step": 20, "train_loss": 1.0, "test_rmse": 0.5,
        "effective_rank": 3.0,
        "singular_value_1": 20.0, "singular_value_5": 12.0, "singular_value_6": 10.0,
        "median_off_diagonal_over_diagonal": 0.375, "so_for_all_vectors": 0.375,
        "largest_relative_balancedness": 3e-3,
        "velocity_error": 0.5, "velocity_error_of_wrong_exponent": pytest.approx(0.25),
    }  # fmt: skip
    (row,) = figure3._table(replace(problem, has_velocities=False), {2: states(2)}).to_pylist()
    assert "velocity_error" not in row


@pytest.mark.parametrize("quick", [True, False])
def test_dynamics_on_movielens_are_quick_in_depth_and_time(
    quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def read(*given: Any) -> tuple[str, str]:
        asked.append(given)
        return "some", "others"

    monkeypatch.setattr(figure3, "read_some_ratings", read)
    problem = figure3.movielens(Path("ml"), quick=quick)
    rates = {1: 0.05, 2: 0.01, 3: 0.001, 4: 0.0007}
    assert asked == [(Path("ml"), 10_000, 0)]
    assert problem.learning_rates == ({1: 0.05, 2: 0.01} if quick else rates)
    assert (problem.hidden, problem.init_scale, problem.longest) == (943, 1e-2, 4.0)
    assert (problem.interval, problem.train_loss_threshold) == ((0.4, 1e-2) if quick else (0.1, 1e-3))
    assert [str(problem.train), str(problem.test)] == ["some", "others"]
    assert problem.one_thread == quick


def test_a_trial_of_the_dynamics_descends_on_the_sum_for_so_long() -> None:
    train, test = (Observations([0, 1], [1, 0], [1.0, last], (2, 3)) for last in (2.0, 3.0))
    problem = DynamicsProblem(
        "one", train, test, 4, 0.01, {3: 0.02}, interval=0.09, longest=1.0, train_loss_threshold=1e-3
    )
    trial = problem.trial(3)
    assert [tuple(factor.shape) for factor in trial.factors] == [(4, 3), (4, 4), (2, 4)]
    assert (trial.options.steps, trial.options.reduction, trial.recording.every) == (50, "sum", 4)
    assert trial.spec.options["lr"] == 0.02
    assert (trial.train, trial.test) == (train, test)
    assert replace(problem, interval=0.001).trial(3).recording.every == 1


def test_the_random_matrix_has_the_sizes_that_the_claims_were_decided_at() -> None:
    full, quick = (figure3.synthetic(quick=quick) for quick in (False, True))
    assert (full.train.shape, full.train.nnz, full.hidden, full.init_scale) == ((100, 100), 2_000, 100, 1e-3)
    assert full.learning_rates == {1: 1e-3, 2: 2e-4, 3: 2e-4, 4: 1e-4}
    assert quick.learning_rates == {depth: 4 * rate for depth, rate in full.learning_rates.items()}
    assert torch.equal(full.train.values, quick.train.values)
    assert (full.interval, full.longest, full.train_loss_threshold) == (0.025, 4.0, 1e-3)
    assert (quick.interval, quick.longest, quick.train_loss_threshold) == (0.05, 4.0, 1e-3)
    assert full.train.nnz + full.test.nnz == 10_000
