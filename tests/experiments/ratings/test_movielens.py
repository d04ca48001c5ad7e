"""MovieLens completed both ways: what is run, what is kept, and the rules of the comparison."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from dmf_fast.experiments.ratings import movielens, movielens_runs
from dmf_fast.experiments.ratings.movielens_data import NOT_HERE, SHAPE, MovieLensSplit, read_u1
from dmf_fast.experiments.ratings.movielens_runs import MovieLensGrid, MovieLensResults, run_movielens
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running import cached_trials
from dmf_fast.experiments.synthetic import low_rank_problem
from dmf_fast.training import Trial, Trials

TINY = MovieLensGrid(
    depths=(2, 3), seeds=2, hidden=4, lr=0.05, steps=60, record_every=20, regularizations=(4.0, 1.0)
)


@pytest.fixture
def split() -> MovieLensSplit:
    problem = low_rank_problem(15, 12, 2, 100, seed=0)
    train, validation = problem.train.split(0.2, seed=0)
    return MovieLensSplit(train, validation, problem.test, mean=0.0)


def test_every_run_ends_at_its_least_validation_error(split: MovieLensSplit, tmp_path: Path) -> None:
    results = run_movielens(TINY, split, Reproduction(tmp_path, progress=False))

    best = {(row["depth"], row["seed"]): row for row in results.best.to_pylist()}
    assert set(best) == set(product((2, 3), (0, 1)))
    for (depth, seed), row in best.items():
        run = [r for r in results.histories.to_pylist() if (r["depth"], r["seed"]) == (depth, seed)]
        assert [r["step"] for r in run] == [0, 20, 40, 60]
        assert row == min(run, key=lambda r: float(r["validation_rmse"]))
    assert [(work.dims, work.observed, work.steps) for work in results.work] == [
        ((12, 4, 15), 80, 120),
        ((12, 4, 4, 15), 80, 120),
    ]


def test_the_path_measures_solutions_of_the_convex_problem(split: MovieLensSplit, tmp_path: Path) -> None:
    path = run_movielens(TINY, split, Reproduction(tmp_path, progress=False)).path.to_pylist()

    assert [row["regularization"] for row in path] == [4.0, 1.0]
    assert path[0]["train_rmse"] > path[1]["train_rmse"]
    assert path[0]["nuclear_norm"] < path[1]["nuclear_norm"]
    assert all(row["relative_gap"] <= TINY.tolerance for row in path)
    # No perturbation of the solution has a smaller objective, up to the gap.
    objective = 80 * path[0]["train_rmse"] ** 2 + 4.0 * path[0]["nuclear_norm"]
    assert objective <= 80 * path[1]["train_rmse"] ** 2 + 4.0 * path[1]["nuclear_norm"]


def test_what_has_been_run_is_not_run_again(
    split: MovieLensSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reproduction = Reproduction(tmp_path, progress=False)
    first = run_movielens(TINY, split, reproduction)
    monkeypatch.setattr(sys.modules["dmf_fast.training.fit_many"], "make_run", None)
    monkeypatch.setattr(movielens_runs, "nuclear_norm_path", None)

    assert run_movielens(TINY, split, reproduction) == first
    for other in (
        replace(TINY, tolerance=1e-3 + 1e-9),
        replace(TINY, regularizations=(4.0, 1.0 + 1e-9)),
    ):
        with pytest.raises(TypeError):
            run_movielens(other, split, reproduction)


def test_interrupted_runs_report_nothing(
    split: MovieLensSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(trials: list[Trial], **_: object) -> Trials:
        return Trials([])

    monkeypatch.setattr(cached_trials, "fit_many", interrupted)

    with pytest.raises(KeyboardInterrupt):
        run_movielens(TINY, split, Reproduction(tmp_path, progress=False))


def made_up(
    test_rmse: dict[int, float], effective_rank: dict[int, float], convex: dict[float, tuple[float, float]]
) -> MovieLensResults:
    """Return results of five seeds; ``convex`` has validation and test error of every weight."""
    noise = np.random.default_rng(0).uniform(0.9999, 1.0001, 5)
    best = [
        {
            "depth": depth,
            "seed": seed,
            "validation_rmse": error * noise[seed],
            "test_rmse": error * noise[seed],
            "effective_rank": effective_rank[depth] * noise[seed],
        }
        for (depth, error), seed in product(test_rmse.items(), range(5))
    ]
    path = [
        {"regularization": weight, "validation_rmse": validation, "test_rmse": test}
        for weight, (validation, test) in convex.items()
    ]
    return MovieLensResults(pa.table({}), pa.Table.from_pylist(best), pa.Table.from_pylist(path), [])


def verdicts(results: MovieLensResults) -> list[bool]:
    return [claim.verdict == "reproduced" for claim in movielens.claims(results)]


def test_lower_errors_and_ranks_with_depth_are_reproduced() -> None:
    results = made_up({2: 0.96, 3: 0.95, 4: 0.94}, {2: 20.0, 3: 5.0, 4: 4.0}, {9.0: (0.97, 0.97)})

    assert verdicts(results) == [True, True, True, True]


def test_larger_errors_and_ranks_with_depth_are_not() -> None:
    results = made_up({2: 0.98, 3: 0.99, 4: 1.0}, {2: 5.0, 3: 20.0, 4: 30.0}, {9.0: (0.97, 0.97)})

    assert verdicts(results) == [False, False, False, False]


def test_depths_are_compared_by_the_one_that_validation_prefers() -> None:
    results = made_up({2: 0.96, 3: 0.95, 4: 0.98}, {2: 20.0, 3: 5.0, 4: 6.0}, {9.0: (0.955, 0.955)})

    assert verdicts(results) == [True, True, False, True]
    assert "depth 3" in movielens.claims(results)[0].evidence


def test_validation_and_not_the_test_error_chooses_the_weight() -> None:
    depths = {2: 0.97, 3: 0.96, 4: 0.96}
    results = made_up(depths, depths, {9.0: (0.97, 0.94), 5.0: (0.96, 0.98)})

    assert verdicts(results)[0]
    assert "0.98" in movielens.claims(results)[0].evidence


def test_without_movielens_nothing_is_tested(tmp_path: Path) -> None:
    section = movielens.run(Reproduction(tmp_path))

    assert [(claim.verdict, claim.evidence) for claim in section.claims] == [("not tested", NOT_HERE)] * 4
    assert not [*section.figures, *section.tables, *section.work]
    assert not list(tmp_path.iterdir())


def test_the_split_is_the_official_one_less_its_mean(tmp_path: Path) -> None:
    base = [(user, film, 1 + (user + film) % 5) for user in range(1, 11) for film in range(1, 11)]
    test = [(943, 1682, 5)]
    for name, ratings in (("u1.base", base), ("u1.test", test)):
        (tmp_path / name).write_text("".join(f"{u}\t{f}\t{rating}\t0\n" for u, f, rating in ratings))

    split = read_u1(tmp_path, validation_fraction=0.1, seed=0)

    assert split.mean == pytest.approx(3.0)
    assert (len(split.train), len(split.validation), split.train.shape) == (90, 10, SHAPE)
    assert (split.test.rows.item(), split.test.columns.item(), split.test.values.item()) == (942, 1681, 2.0)
    expected = (split.train.rows + split.train.columns + 2) % 5 - 2.0
    assert torch.equal(split.train.values, expected)
