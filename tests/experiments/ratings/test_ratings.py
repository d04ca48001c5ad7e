"""Shares of ratings completed at every depth: what is run, what is kept, and the rules of the claims."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dmf_fast.experiments.ratings import ratings, ratings_runs
from dmf_fast.experiments.ratings.ratings_runs import RatingsGrid, RatingsResults, run_ratings
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
    for other in (replace(TINY, shares=(0.2 + 1e-9,)), replace(TINY, depths=(3, 2)), replace(TINY, steps=31)):
        with pytest.raises(TypeError):
            run_ratings(other, movielens_folder, reproduction)


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


BASE = [0.90, 0.91, 0.92, 0.93, 0.94]
MODELS = {
    name: BASE for name in ("biases", "depth 2", "depth 3", "auto", "depth 2, no decay", "depth 3, no decay")
}


def better(by: float = 0.01, but: int = 0) -> list[float]:
    """Errors below BASE, but for the first so many splits, which return the biases alone."""
    return [error if split < but else (1 - by * (1 + split / 10)) * error for split, error in enumerate(BASE)]


@pytest.mark.parametrize(
    ("share", "errors", "verdict"),
    [
        (0.2, better(), "reproduced"),
        (0.19, better(), "not reproduced"),  # no share is left that decides
        (0.5, better(), "reproduced"),
        (0.5, better(but=2), "reproduced"),  # three of five differ, and these agree
        (0.5, better(but=3), "not reproduced"),
        (0.5, BASE, "not reproduced"),
        (0.5, [*better()[:4], 2.0], "not reproduced"),
    ],
)
def test_depth_pays_where_it_does_at_every_share_with_enough_to_learn(
    share: float, errors: list[float], verdict: str
) -> None:
    deep, *_ = ratings.claims(results(MODELS | {"depth 3": errors}, share))
    assert deep.verdict == verdict
    both = [results(MODELS | {"depth 3": better()}, 0.3), results(MODELS | {"depth 3": errors}, share)]
    deep, *_ = ratings.claims(RatingsResults(pa.concat_tables([one.runs for one in both]), []))
    assert deep.verdict == ("not reproduced" if errors[-1] == 2.0 else "reproduced")


@pytest.mark.parametrize(("share", "verdict"), [(0.5, "not reproduced"), (0.51, "reproduced")])
def test_without_a_decay_shares_up_to_a_half_decide(share: float, verdict: str) -> None:
    worse = [1.02 * error for error in BASE]
    both = [
        results(MODELS | {"depth 3, no decay": errors}, at)
        for at, errors in ((0.3, better()), (share, worse))
    ]
    _, undecayed, *_ = ratings.claims(RatingsResults(pa.concat_tables([one.runs for one in both]), []))
    assert undecayed.verdict == verdict


@pytest.mark.parametrize(
    ("above", "verdict"),
    [
        ([4.9e-4] * 5, "reproduced"),
        ([5.1e-4] * 5, "not reproduced"),
        ([-1.0, -1.0, 4e-4, 1.0, 1.0], "reproduced"),  # the median of the differences
        ([-1.0, -1.0, 6e-4, 6e-4, 6e-4], "not reproduced"),
    ],
)
def test_the_automatic_depth_may_be_half_a_thousandth_above_the_biases(
    above: list[float], verdict: str
) -> None:
    auto = [error + more for error, more in zip(BASE, above, strict=True)]
    *_, biases = ratings.claims(results(MODELS | {"auto": auto}))
    assert biases.verdict == verdict
    other = results(MODELS, 0.1)
    *_, biases = ratings.claims(
        RatingsResults(pa.concat_tables([results(MODELS | {"auto": auto}).runs, other.runs]), [])
    )
    assert biases.verdict == verdict


def test_without_the_ratings_nothing_is_claimed(tmp_path: Path) -> None:
    section = ratings.run(Reproduction(tmp_path))
    assert {claim.verdict for claim in section.claims} == {"not tested"}
