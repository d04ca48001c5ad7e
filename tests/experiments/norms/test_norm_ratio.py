"""The penalty on the ratio of norms: its gradient, descent compared with NumPy, its tuning, and the rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dmf_fast.experiments.norms import norm_ratio, norm_ratio_runs
from dmf_fast.experiments.norms.norm_ratio_claims import (
    RatioErrors,
    as_good_as_depth,
    claims,
    large_rates,
    low_rank,
    only_adaptive,
)
from dmf_fast.experiments.norms.norm_ratio_runs import (
    FIRST_TUNING_SEED,
    QUICK,
    RatioGrid,
    RatioResults,
    best_of,
    norm_ratio_gradient,
    penalized_descent,
    run_ratio_grid,
)
from dmf_fast.experiments.recovery.completion_grid import CompletionGrid, GridResults
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.initialization import initialize

TINY = RatioGrid(
    CompletionGrid(
        size=6, rank=1, observed=(20,), depths=(3,), init_scales=(1e-3,), learning_rates=(1e-3,), seeds=2
    ),
    steps=3,
    learning_rates={"Adam": (1e-2,), "gradient descent": (1.0, 5.0)},
    penalties=(1e-2, 1e-1),
)


def ratio(matrix: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(matrix, "nuc") / np.linalg.norm(matrix))


def test_the_gradient_is_that_of_finite_differences() -> None:
    matrix = np.random.default_rng(0).standard_normal((4, 3))
    gradient, values = norm_ratio_gradient(torch.from_numpy(matrix))
    np.testing.assert_allclose(values, np.linalg.svd(matrix)[1])
    for place in np.ndindex(4, 3):
        step = np.zeros((4, 3))
        step[place] = 1e-6
        difference = (ratio(matrix + step) - ratio(matrix - step)) / 2e-6
        assert gradient[place].item() == pytest.approx(difference, abs=1e-8)


def test_the_penalty_does_not_pull_towards_zero() -> None:
    matrix = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gradient, _ = norm_ratio_gradient(matrix)
    assert abs(float((gradient * matrix).sum())) < 1e-12


def test_gradient_descent_makes_the_steps_that_numpy_makes() -> None:
    rows = penalized_descent(TINY, "gradient descent", lr=5.0, penalty=0.1, seed=1)
    problem = TINY.problems.problem(20, 1)
    truth, observed = problem.truth.numpy(), np.zeros((6, 6))
    observed[problem.train.coordinates()] = 1
    assert observed.sum() == 20
    (start,) = initialize("gaussian", (6, 6), 1.0, seed=1, dtype=torch.float64)
    matrix = start.numpy()
    for row in rows:
        left, values, right = np.linalg.svd(matrix)
        residuals = observed * (matrix - truth)
        assert row["train_loss"] == pytest.approx((residuals**2).sum() / 20, rel=1e-4)
        assert row["reconstruction_mse"] == pytest.approx(((matrix - truth) ** 2).mean(), rel=1e-4)
        shares = values / values.sum()
        assert row["effective_rank"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-4)
        norm = np.linalg.norm(matrix)
        penalty = left @ right / norm - values.sum() * matrix / norm**3
        matrix = matrix - 5.0 * (2 * residuals / 20 + 0.1 * penalty)
    assert [row["step"] for row in rows] == [0, 1, 2, 3]


def test_without_the_penalty_entries_that_are_not_observed_stay_where_they_are() -> None:
    grid = replace(TINY, steps=500)
    last = penalized_descent(grid, "Adam", lr=1e-1, penalty=0.0, seed=0)[-1]
    problem = TINY.problems.problem(20, 0)
    (start,) = initialize("gaussian", (6, 6), 1.0, seed=0)
    unobserved = np.ones((6, 6), dtype=bool)
    unobserved[problem.train.coordinates()] = False
    left = float(((start.double() - problem.truth).numpy()[unobserved] ** 2).sum() / 36)
    assert last["train_loss"] < 1e-4
    assert last["reconstruction_mse"] == pytest.approx(left, rel=1e-2)


def test_a_descent_that_is_interrupted_reports_nothing() -> None:
    with pytest.raises(KeyboardInterrupt):
        penalized_descent(TINY, "Adam", 1e-2, 0.1, 0, interrupted=lambda: True)


def test_what_was_best_on_the_tuning_problem_is_run_on_the_others_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reproduction = Reproduction(tmp_path, progress=False)
    results = run_ratio_grid(TINY, reproduction)
    assert results.tuning["seed"].to_pylist() == [FIRST_TUNING_SEED] * 6
    assert results.tuning["step"].to_pylist() == [3] * 6
    assert results.tuning["lr"].to_pylist() == [1e-2, 1e-2, 1.0, 1.0, 5.0, 5.0]
    for optimizer in ("Adam", "gradient descent"):
        best = best_of(results.tuning, optimizer)
        rows = [row for row in results.runs.to_pylist() if row["optimizer"] == optimizer]
        assert {(row["lr"], row["penalty"]) for row in rows} == {(best["lr"], best["penalty"])}
        assert {row["seed"] for row in rows} == {0, 1}
        assert len(results.at_end("reconstruction_mse", optimizer)) == 2

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a run was repeated")

    monkeypatch.setattr(norm_ratio_runs, "penalized_descent", refuse)
    again = run_ratio_grid(TINY, reproduction)
    assert again.runs.equals(results.runs)
    assert again.tuning.equals(results.tuning)


def test_tuning_sees_no_problem_that_is_tested() -> None:
    assert max(norm_ratio_runs.FULL.problems.seeds, QUICK.problems.seeds) <= FIRST_TUNING_SEED


def errors(**changed: Any) -> RatioErrors:
    fine = np.array([1e-4, 2e-4, 3e-4, 4e-4, 5e-4])
    ends = RatioErrors(
        adam=fine,
        descent=np.full(5, 0.7),
        descent_at_one=0.7,
        deep=fine / 2,
        adam_rank=np.full(5, 5.1),
        true_rank=np.full(5, 5.0),
    )
    return replace(ends, **changed)


def test_errors_as_the_paper_says_reproduce_its_claims_and_not_that_of_this_project() -> None:
    assert [claim.verdict for claim in claims(errors())] == ["reproduced"] * 3 + ["not reproduced"]


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({"deep": np.full(5, 3.1e-5)}, "reproduced"),
        ({"deep": np.full(5, 2.9e-5)}, "not reproduced"),  # more than ten times
        ({"adam": np.array([1e-4, 2e-4, 3e-4, 4e-4, 0.01])}, "reproduced"),
        ({"adam": np.array([1e-4, 2e-4, 3e-4, 4e-4, 0.011])}, "not reproduced"),
        ({"deep": np.array([1e-4, 1e-4, 1e-4, 1e-4, 0.02])}, "not reproduced"),
        ({"adam": np.array([1e-4, 2e-4, 3e-4, 4e-4, np.nan])}, "not reproduced"),
    ],
)
def test_the_penalty_is_as_good_as_depth_only_where_both_recover_and_are_near(
    changed: dict[str, Any], verdict: str
) -> None:
    assert as_good_as_depth(errors(**changed)).verdict == verdict


@pytest.mark.parametrize(
    ("rank", "verdict"), [(5.49, "reproduced"), (4.51, "reproduced"), (5.51, "not reproduced")]
)
def test_ranks_are_compared_to_a_tenth_in_every_seed(rank: float, verdict: str) -> None:
    assert low_rank(errors(adam_rank=np.array([5.0, 5.0, 5.0, 5.0, rank]))).verdict == verdict


@pytest.mark.parametrize(
    ("descent", "verdict"),
    [
        (np.full(5, 0.11), "reproduced"),
        (np.array([0.7, 0.7, 0.7, 0.7, 0.09]), "not reproduced"),
        (np.full(5, 1e-5), "not reproduced"),
    ],
)
def test_only_adaptive_optimizers_where_descent_fails_in_every_seed(
    descent: NDArray[np.float64], verdict: str
) -> None:
    assert only_adaptive(errors(descent=descent)).verdict == verdict


@pytest.mark.parametrize(
    ("worst", "verdict"), [(0.01, "reproduced"), (0.011, "not reproduced"), (np.nan, "not reproduced")]
)
def test_only_adaptive_optimizers_where_adam_recovers_in_every_seed(worst: float, verdict: str) -> None:
    assert only_adaptive(errors(adam=np.array([1e-4, 2e-4, 3e-4, 4e-4, worst]))).verdict == verdict


def test_where_adam_fails_as_well_nothing_is_said_for_it() -> None:
    alike = np.array([0.7, 0.8, 0.9, 0.75, 0.85])
    assert only_adaptive(errors(adam=alike, descent=alike[::-1])).verdict == "not reproduced"


@pytest.mark.parametrize(
    ("largest", "at_one", "verdict"),
    [
        (0.01, 0.11, "reproduced"),
        (0.011, 0.7, "not reproduced"),
        (0.001, 0.09, "not reproduced"),
        (float("nan"), 0.7, "not reproduced"),
    ],
)
def test_a_large_rate_makes_the_difference_where_descent_recovers_with_it_alone(
    largest: float, at_one: float, verdict: str
) -> None:
    descent = np.array([1e-4, 1e-4, 1e-4, 1e-4, largest])
    assert large_rates(errors(descent=descent, descent_at_one=at_one)).verdict == verdict


def of_grid() -> tuple[RatioResults, GridResults]:
    """Runs whose errors are told by optimizer, step and seed."""
    runs = [
        {"optimizer": optimizer, "lr": 1.0, "penalty": 0.1, "seed": seed, "step": step}
        | {"train_loss": 0.1, "reconstruction_mse": one * (4 - step) * (1 + seed), "effective_rank": one}
        for optimizer, one in (("Adam", 1.0), ("gradient descent", 10.0))
        for seed in range(2)
        for step in range(4)
    ]
    rows = [row | {"seed": FIRST_TUNING_SEED} for row in runs if row["seed"] == 0 and row["step"] == 3]
    labels = [{"observed": 20, "seed": seed, "depth": 3, "init_scale": 1e-3, "lr": 1e-3} for seed in (0, 1)]
    deep = [label | {"reconstruction_mse": 0.2 + label["seed"]} for label in labels]
    convex = [{"observed": 20, "seed": seed, "reconstruction_mse": 7.0 + seed} for seed in (0, 1)]
    results = RatioResults(TINY, pa.Table.from_pylist(rows), pa.Table.from_pylist(runs))
    return results, GridResults(TINY.problems, pa.Table.from_pylist(deep), pa.Table.from_pylist(convex), [])


def test_the_figure_draws_medians_by_step_and_where_the_others_end() -> None:
    figure: Figure = norm_ratio._plot(*of_grid())
    errors, ranks = ([np.asarray(line.get_data()).tolist() for line in axes.lines] for axes in figure.axes)
    names = [str(line.get_label()) for line in figure.axes[0].lines]
    assert names == ["penalty, Adam", "penalty, gradient descent", "depth 3", "least nuclear norm"]
    steps = [0, 1, 2, 3]
    assert errors[0] == [steps, [6.0, 4.5, 3.0, 1.5]]
    assert errors[1] == [steps, [60.0, 45.0, 30.0, 15.0]]
    assert errors[2] == [[0, 3], pytest.approx([0.7, 0.7])]
    assert errors[3] == [[0, 3], [7.5, 7.5]]
    assert [y for _, y in ranks[:2]] == [[1.0] * 4, [10.0] * 4]
    assert ranks[2][1] == pytest.approx([1.0, 1.0])  # the truth is of rank 1


def test_ends_are_those_of_the_last_step_and_at_a_rate_of_one_of_the_tuning() -> None:
    ends = norm_ratio._errors(*of_grid())
    np.testing.assert_array_equal(ends.adam, [1.0, 2.0])
    np.testing.assert_array_equal(ends.descent, [10.0, 20.0])
    np.testing.assert_allclose(ends.deep, [0.2, 1.2])
    assert ends.descent_at_one == 10.0
    table = norm_ratio._table(*of_grid())
    assert table["gradient descent: error"].to_pylist() == [10.0, 20.0]
    assert table["nuclear norm: error"].to_pylist() == [7.0, 8.0]
