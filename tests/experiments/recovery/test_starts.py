"""Other starts and optimizers: which runs are made, what is drawn, and what decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from dmf_fast.experiments.page.section import Claim
from dmf_fast.experiments.recovery import starts
from dmf_fast.experiments.recovery.completion_grid import GridResults
from dmf_fast.experiments.recovery.starts_runs import (
    FEW,
    PAIRS,
    QUICK_FEW,
    STARTS,
    of_pair,
    run_starts,
    trials,
)
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.initialization import initialize
from tests.experiments.pictures import panels

pytestmark = pytest.mark.usefixtures("figures")

TINY = replace(FEW, size=8, rank=1, observed=(30,), seeds=2, steps=3)
Error = Callable[[str, str, int], float]


def good(start: str, optimizer: str, depth: int) -> float:
    """Return errors by which everything holds."""
    return {2: 0.1, 3: 1e-5}[depth] * (3 if "Adam" in optimizer else 1)


def but(value: float, *where: object) -> Error:
    """Return the good errors, with another one at (start, optimizer, depth)."""
    return lambda *asked: value if asked == where else good(*asked)


def made_up(error: Error) -> GridResults:
    """Return results where an error depends on start, optimizer and depth, but for little noise."""
    grid = replace(TINY, seeds=5)
    random = np.random.default_rng(0)
    runs = [
        {"start": start, "method": optimizer, "depth": depth, "seed": seed, "step": 100 * depth + seed}
        | {"reconstruction_mse": error(start, optimizer, depth) * random.uniform(0.99, 1.01)}
        for (start, optimizer), depth, seed in product(PAIRS, grid.depths, range(grid.seeds))
    ]
    convex = [{"observed": 30, "seed": seed, "reconstruction_mse": 0.05 + 0.01 * seed} for seed in range(5)]
    return GridResults(grid, pa.Table.from_pylist(runs), pa.Table.from_pylist(convex), [])


def verdicts(claims: list[Claim]) -> list[bool]:
    return [claim.verdict == "reproduced" for claim in claims]


def test_errors_where_depth_helps_everywhere_reproduce_all_statements() -> None:
    assert verdicts(starts.claims(made_up(good))) == [True] * 5


@pytest.mark.parametrize("start", [start for start in STARTS if start != "gaussian"])
def test_one_start_where_depth_does_not_help_refutes_that_it_helps_from_all(start: str) -> None:
    decided = starts.claims(made_up(but(0.11, start, "GroupRMSprop", 3)))
    assert verdicts(decided) == [False, False, True, True, True]


def test_a_start_that_does_not_recover_refutes_only_that() -> None:
    decided = starts.claims(made_up(but(2e-3, "identity", "GroupRMSprop", 3)))
    assert verdicts(decided) == [True, False, True, True, True]
    decided = starts.claims(made_up(but(9.8e-4, "identity", "GroupRMSprop", 3)))
    assert verdicts(decided) == [True] * 5


@pytest.mark.parametrize("adam", ["Adam 1e-3", "Adam 1e-4"])
def test_one_optimizer_where_depth_does_not_help_refutes_that_it_helps_with_all(adam: str) -> None:
    decided = starts.claims(made_up(but(0.5, "gaussian", adam, 3)))
    assert verdicts(decided) == [True, True, False, True, True]


@pytest.mark.parametrize(("factor", "holds"), [(1.9, True), (2.1, False), (1 / 1.9, True), (1 / 2.1, False)])
@pytest.mark.parametrize("depth", [2, 3])
def test_gradient_descent_ends_elsewhere_from_a_factor_of_2_on(
    depth: int, factor: float, holds: bool
) -> None:
    error = good("gaussian", "SGD", depth) * factor
    assert verdicts(starts.claims(made_up(but(error, "gaussian", "SGD", depth))))[3] is holds


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("adam", ["Adam 1e-3", "Adam 1e-4"])
def test_adam_must_err_more_at_both_depths_with_both_rates(adam: str, depth: int) -> None:
    better = good("gaussian", "GroupRMSprop", depth) / 2
    assert verdicts(starts.claims(made_up(but(better, "gaussian", adam, depth))))[4] is False


def test_runs_differ_in_start_optimizer_and_depth_alone() -> None:
    grid = replace(TINY, seeds=1)
    made = {
        (trial.labels["start"], trial.labels["method"], trial.labels["depth"]): trial
        for trial in trials(grid)
    }

    assert set(made) == {(*pair, depth) for pair in PAIRS for depth in (2, 3)}
    for (start, optimizer, depth), trial in made.items():
        assert trial.spec.name == str(optimizer).split()[0]
        assert trial.options.reduction == "sum"
        expected = initialize(str(start), (8,) * (int(depth) + 1), 1e-3, seed=0)
        assert all(torch.equal(*pair) for pair in zip(trial.factors, expected, strict=True))
        assert torch.equal(trial.train.values, grid.problem(30, 0).train.values.float())
    rates = {
        (optimizer, depth): made["gaussian", optimizer, depth].spec.options["lr"]
        for optimizer, depth in product(("GroupRMSprop", "Adam 1e-3", "Adam 1e-4", "SGD"), (2, 3))
    }
    assert rates == {
        ("GroupRMSprop", 2): 1e-3, ("GroupRMSprop", 3): 1e-3, ("Adam 1e-3", 2): 1e-3, ("Adam 1e-3", 3): 1e-3,
        ("Adam 1e-4", 2): 1e-4, ("Adam 1e-4", 3): 1e-4, ("SGD", 2): 5e-3, ("SGD", 3): 1e-3,
    }  # fmt: skip


@pytest.mark.parametrize(("grid", "size", "entries"), [(FEW, 100, 2_000), (QUICK_FEW, 60, 720)])
def test_rates_of_gradient_descent_are_a_tenth_of_the_stable_ones(
    grid: object, size: int, entries: int
) -> None:
    assert isinstance(grid, type(FEW))
    problem = grid.problem(entries, 0)
    largest = float(torch.linalg.matrix_norm(problem.truth, 2))
    for depth, rate in ((2, 5e-3), (3, 1e-3)):
        # 2 over the largest eigenvalue, 2 p N σ^(2 − 2/N), of the Hessian of the sum of squares at the truth.
        stable = 1 / (entries / size**2 * depth * largest ** (2 - 2 / depth))
        assert 0.05 < rate / stable < 0.2


def test_all_pairs_are_run_on_the_same_matrices(tmp_path: Path) -> None:
    results = run_starts(TINY, Reproduction(tmp_path, progress=False))

    assert len(results.runs) == len(PAIRS) * 2 * 2
    assert of_pair(results, "gaussian", "Adam 1e-4", 3).shape == (2,)
    assert len(results.convex) == 2


def test_the_errors_of_all_seeds_are_drawn_over_their_start_or_optimizer() -> None:
    results = made_up(good)
    by_start, by_optimizer = panels(starts._picture(results))

    for axes, pairs in ((by_start, PAIRS[:5]), (by_optimizer, (PAIRS[0], *PAIRS[5:]))):
        names = [label.get_text() for label in axes.get_xticklabels()]
        assert names == [pair[0] if axes is by_start else pair[1] for pair in pairs]
        points = {line.get_label(): line for line in axes.lines}
        for depth in (2, 3):
            x, y = (np.asarray(data) for data in points[f"depth {depth}"].get_data())
            assert np.rint(x).tolist() == np.repeat(range(len(pairs)), 5).tolist()
            assert y.tolist() == np.concatenate([of_pair(results, *pair, depth) for pair in pairs]).tolist()
        assert points["nuclear norm"].get_ydata() == [0.07, 0.07]


def test_the_table_has_a_row_for_every_pair_and_depth_and_one_for_the_nuclear_norm() -> None:
    rows = starts._table(made_up(good)).to_pylist()

    assert len(rows) == len(PAIRS) * 2 + 1
    assert (rows[1]["start"], rows[1]["optimizer"], rows[1]["depth"]) == ("gaussian", "GroupRMSprop", "3")
    assert (rows[1]["seeds recovered"], rows[1]["median steps"]) == (5, 302)
    assert rows[0]["seeds recovered"] == 0
    assert (rows[-1]["optimizer"], rows[-1]["median error"], rows[-1]["median steps"]) == (
        "nuclear norm", 0.07, None,
    )  # fmt: skip
