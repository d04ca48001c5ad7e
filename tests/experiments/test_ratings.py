"""Shares of ratings completed at every depth: what is run, what is kept, and the rules of the claims."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dmf_fast.experiments import ratings, ratings_runs
from dmf_fast.experiments.ratings_runs import RatingsGrid, RatingsResults, run_ratings
from dmf_fast.experiments.reproduction import Reproduction

TINY = RatingsGrid(shares=(0.2,), splits=2, depths=(2, 3), undecayed=(3,), steps=30)


def results(errors: dict[str, list[float]], share: float = 0.5, rank: float | None = 5.0) -> RatingsResults:
    """Errors by model, one a split."""
    rows = [
        {"share": share, "seed": seed, "model": model, "test_rmse": error, "effective_rank": rank}
        for model, of_model in errors.items()
        for seed, error in enumerate(of_model)
    ]
    return RatingsResults(pa.Table.from_pylist(rows), [])


def test_every_model_is_measured_on_every_split_and_nothing_is_run_twice(
    movielens_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reproduction = Reproduction(tmp_path, progress=False)
    first = run_ratings(TINY, movielens_folder, reproduction)
    rows = first.runs.to_pylist()
    assert [(row["seed"], row["model"]) for row in rows] == [
        (seed, model)
        for seed in (0, 1)
        for model in ("biases", "depth 2", "depth 3", "depth 3, no decay", "auto")
    ]
    assert all(0.9 < row["test_rmse"] < 1.1 for row in rows)
    assert all((row["effective_rank"] is None) == (row["chosen"] == "biases") for row in rows)
    monkeypatch.setattr(ratings_runs, "complete_matrix", None)
    assert run_ratings(TINY, movielens_folder, reproduction) == first


def test_claims_follow_the_errors_of_the_splits() -> None:
    random = np.random.default_rng(0)
    base = list(0.9 + 0.01 * random.random(5))
    better, worse = ([one + step for one in base] for step in (-0.004, 0.004))
    errors = {
        "biases": worse, "depth 2": base, "depth 3": better, "auto": better,
        "depth 2, no decay": base, "depth 3, no decay": worse,
    }  # fmt: skip
    deep, undecayed, rank, biases = ratings.claims(results(errors))
    assert (deep.verdict, undecayed.verdict, biases.verdict) == ("reproduced", "not reproduced", "reproduced")
    assert rank.verdict == "not reproduced"
    assert "smaller in 5 of 5" in deep.evidence
    (*_, never) = ratings.claims(results(errors | {"auto": [one + 0.01 for one in worse]}))
    assert never.verdict == "not reproduced"


def test_the_claim_about_scarce_ratings_is_decided_by_scarce_ratings() -> None:
    base = [0.9, 0.91, 0.92, 0.93, 0.94]
    models = {name: base for name in ("biases", "depth 2", "depth 3", "auto", "depth 2, no decay")}
    scarce = results(models | {"depth 3, no decay": [one - 0.01 * one for one in base]}, 0.3)
    dense = results(models | {"depth 3, no decay": [one + 0.01 * one for one in base]}, 0.9)
    both = RatingsResults(pa.concat_tables([scarce.runs, dense.runs]), [])
    _, undecayed, *_ = ratings.claims(both)
    assert undecayed.verdict == "reproduced"
    assert "90%" in undecayed.evidence


def test_without_the_ratings_nothing_is_claimed(tmp_path: Path) -> None:
    section = ratings.run(Reproduction(tmp_path))
    assert {claim.verdict for claim in section.claims} == {"not tested"}
