"""Figures and tables show what was measured: curves, bands and rows against numbers by hand."""

from __future__ import annotations

import pyarrow as pa
import pytest

from dmf_fast import Observations
from dmf_fast.experiments.ratings import movielens, ratings
from dmf_fast.experiments.ratings.movielens_data import MovieLensSplit
from dmf_fast.experiments.ratings.movielens_runs import QUICK as MOVIELENS_QUICK
from dmf_fast.experiments.ratings.movielens_runs import MovieLensGrid, MovieLensResults
from dmf_fast.experiments.ratings.ratings_runs import QUICK as RATINGS_QUICK
from dmf_fast.experiments.ratings.ratings_runs import RatingsGrid, RatingsResults
from tests.experiments.pictures import curves, legends, panels

pytestmark = pytest.mark.usefixtures("figures")


def movielens_results() -> MovieLensResults:
    histories = [
        {"depth": depth, "seed": seed, "step": step, "test_rmse": depth + step / 100 + seed,
         "effective_rank": 10.0 * depth + step / 50 + seed}
        for depth in (2, 3) for seed in (1, 0, 2) for step in (50, 0, 100)
    ]  # fmt: skip
    best = [
        {"depth": depth, "seed": seed, "step": 50 + 50 * seed, "validation_rmse": 1.0 + seed,
         "test_rmse": depth + seed, "effective_rank": 4.0, "nuclear_norm": 9.0}
        for depth in (2, 3) for seed in (0, 2, 1)
    ]  # fmt: skip
    path = [
        {"regularization": weight, "validation_rmse": error, "test_rmse": error + 0.25, "rank": rank,
         "effective_rank": rank / 2, "nuclear_norm": 50.0}
        for weight, error, rank in ((9.0, 1.5, 4), (5.0, 1.25, 6), (3.0, 1.75, 8))
    ]  # fmt: skip
    return MovieLensResults(*(pa.Table.from_pylist(rows) for rows in (histories, best, path)), [])


def test_movielens_is_drawn_by_step_and_by_rank() -> None:
    errors, ranks, both = panels(movielens._picture(movielens_results()))
    assert curves(errors)["depth 3"] == ([0, 50, 100], [4.0, 4.5, 5.0])
    assert curves(ranks)["depth 3"] == ([50, 100], [32.0, 33.0])
    assert curves(both)["depth 2"] == ([21.0, 22.0], [2.5, 3.0])  # of the first seed
    assert curves(errors)["nuclear norm"][1] == [1.5, 1.5]
    assert [line.get_ydata() for line in ranks.lines if line.get_linestyle() == "--"][-1] == [3.0, 3.0]
    assert any(line.get_ydata().tolist() == [1.75, 1.5, 2.0] for line in both.lines)


def test_the_table_of_movielens_has_means_and_the_error_of_the_mean_rating() -> None:
    entries = [Observations([0, 1], [0, 1], values) for values in ([1.0, 1.0], [3.0, 4.0], [6.0, 8.0])]
    rows = movielens._table(movielens_results(), MovieLensSplit(*entries, mean=3.5)).to_pylist()
    assert [row["solution"] for row in rows] == ["depth 2", "depth 3", "nuclear norm", "mean of u1.base"]
    assert rows[1] == {
        "solution": "depth 3", "step": 100.0, "regularization": None, "validation_rmse": 2.0,
        "test_rmse": 4.0, "test_rmse_deviation": 1.0, "rank": None, "effective_rank": 4.0,
        "nuclear_norm": 9.0,
    }  # fmt: skip
    assert (rows[2]["regularization"], rows[2]["test_rmse"], rows[2]["test_rmse_deviation"]) == (
        5.0,
        1.5,
        None,
    )
    assert (rows[3]["validation_rmse"], rows[3]["test_rmse"]) == pytest.approx((12.5**0.5, 50**0.5))


def ratings_results() -> RatingsResults:
    rows = [
        {"share": share, "seed": seed, "model": model, "test_rmse": 1.0 + gain + share * seed,
         "effective_rank": None if rank is None else 10 * share * rank,
         "singular_values": [4.0 * share, 1.0, 3e-6, 1e-9]}
        for share in (0.9, 0.2, 0.4)
        for seed in (2, 0, 1)
        for model, gain, rank in (
            ("biases", 0.0, None), ("depth 1", 0.5, 9.0), ("depth 2", -0.25, 5.0), ("auto", 0.0, 4.0),
            ("depth 2, no decay", 0.125, 7.0),
        )
    ]  # fmt: skip
    return RatingsResults(pa.Table.from_pylist(rows), [])


def test_gains_over_the_biases_are_drawn_with_decay_and_without() -> None:
    decayed, undecayed = panels(ratings._errors(ratings_results()))
    gains = {label: points for label, points in curves(decayed).items() if label in ratings._LINES}
    assert gains == {
        label: (pytest.approx([20.0, 40.0, 90.0]), pytest.approx([gain] * 3))
        for label, gain in (("depth 1", 0.5), ("depth 2", -0.25), ("auto", 0.0))
    }
    assert curves(undecayed)["depth 2"][1] == pytest.approx([0.125] * 3)
    assert legends([decayed, undecayed]) == [0]
    for axes in (decayed, undecayed):
        assert [0.0, 0.0] in [line.get_ydata() for line in axes.lines]
        assert axes.get_xlabel() == "ratings seen, %"
    assert decayed.get_ylabel() == "test RMSE less that of the biases"
    assert "depth 1" not in curves(undecayed)


def test_the_spectra_are_of_the_share_next_to_a_half_and_leave_out_what_is_zero() -> None:
    decayed, undecayed = panels(ratings._spectra(ratings_results()))
    assert curves(decayed) == {"depth 2": ([1, 2, 3], [1.6, 1.0, 3e-6])}
    assert curves(undecayed) == {"depth 2": ([1, 2, 3], [1.6, 1.0, 3e-6])}


def test_the_table_of_ratings_has_the_median_errors_of_every_share() -> None:
    rows = {row["model"]: row for row in ratings._table(ratings_results()).to_pylist()}
    assert rows["depth 2"] == {
        "model": "depth 2", "RMSE from 20%": pytest.approx(0.95), "RMSE from 40%": pytest.approx(1.15),
        "RMSE from 90%": pytest.approx(1.65), "effective rank": 45.0,
    }  # fmt: skip
    assert rows["biases"]["effective rank"] is None


def test_runs_have_the_sizes_that_the_claims_were_decided_at() -> None:
    assert MovieLensGrid() == MovieLensGrid((2, 3, 4), 5, 100, 1e-2, 0.03, 3_000, 50, 0.05)
    assert MovieLensGrid().dims(3, (943, 1682)) == (1682, 100, 100, 943)
    assert RatingsGrid() == RatingsGrid((0.05, 0.1, 0.2, 0.3, 0.5, 0.9), 5, (1, 2, 3, 4), (2, 3, 4), 5_000)


def test_quick_runs_are_smaller_ones_of_the_same_kind() -> None:
    assert RatingsGrid((0.3, 0.5), 2, (2, 3), (2, 3), 5_000) == RATINGS_QUICK
    assert (
        MovieLensGrid((2, 3, 4), 2, 50, 1e-2, 0.1, 600, 25, 0.05, (35.0, 28.0, 23.0, 19.0), 1e-2)
        == MOVIELENS_QUICK
    )


def test_jobs_on_ratings_differ_in_depth_and_decay_alone() -> None:
    jobs = dict(RatingsGrid(depths=(1, 3), undecayed=(2,), steps=40).jobs())
    assert {name: (one.depth, one.weight_decay, one.bias_weight_decay) for name, one in jobs.items()} == {
        "depth 1": (1, 0.13, None), "depth 3": (3, 0.13, None), "depth 2, no decay": (2, 0.0, 0.0),
        "auto": ("auto", 0.13, None),
    }  # fmt: skip
    assert {(one.fit.steps, one.fit.patience) for one in jobs.values()} == {(40, 20)}
