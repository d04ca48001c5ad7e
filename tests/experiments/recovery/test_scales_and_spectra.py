"""Completion over depths and scales: the grid, errors by scale, and what figure 2 says about spectra."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from dmf_fast.experiments.page.section import Claim
from dmf_fast.experiments.recovery import figure2, scales, spectra
from dmf_fast.experiments.recovery.completion_grid import FULL, QUICK, CompletionGrid, GridResults, run_grid
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.training import Trial, Trials
from tests.experiments.pictures import curves, legends, panels

pytestmark = pytest.mark.usefixtures("figures")

TINY = CompletionGrid(
    size=12, rank=1, observed=(60, 100), init_scales=(1e-3, 1e-4), learning_rates=(3e-3,), seeds=2, steps=300
)


def spectra_claims(results: GridResults) -> list[Claim]:
    return spectra.claims(figure2.spectra_of(results), figure2.SOURCE)


def made_up(value: Callable[[str, int, float], float], convex: Callable[[str], float]) -> GridResults:
    """Return results where a measure of a run depends on depth and scale alone, but for little noise."""
    grid = replace(TINY, seeds=5)
    measures = ("reconstruction_mse", "nuclear_norm", "effective_rank")
    noise = np.random.default_rng(0).uniform(0.999, 1.001, grid.seeds)
    runs = [
        {"observed": observed, "seed": seed, "depth": depth, "init_scale": scale, "lr": 3e-3}
        | {measure: value(measure, depth, scale) * noise[seed] for measure in measures}
        for observed, seed, depth, scale in product(
            grid.observed, range(grid.seeds), grid.depths, grid.init_scales
        )
    ]
    rows = [
        {"observed": observed, "seed": seed} | {measure: convex(measure) for measure in measures}
        for observed, seed in product(grid.observed, range(grid.seeds))
    ]
    return GridResults(grid, pa.Table.from_pylist(runs), pa.Table.from_pylist(rows), [])


def verdicts(claims: list[Claim]) -> list[bool]:
    return [claim.verdict == "reproduced" for claim in claims]


def test_every_depth_and_scale_completes_the_same_entries(tmp_path: Path) -> None:
    results = run_grid(TINY, Reproduction(tmp_path, progress=False))

    assert len(results.runs) == 2 * 2 * 3 * 2
    assert len(results.convex) == 2 * 2
    assert results.of_runs("train_loss", observed=60, depth=3).shape == (2,)
    steps = sum(work.steps for work in results.work)
    assert steps == sum(results.runs["step"].to_pylist())
    assert {work.dims for work in results.work} == {(12,) * (depth + 1) for depth in (2, 3, 4)}


def test_what_has_been_run_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reproduction = Reproduction(tmp_path, progress=False)
    first = run_grid(TINY, reproduction)
    monkeypatch.setattr(sys.modules["dmf_fast.training.fit_many"], "make_run", None)

    assert run_grid(TINY, reproduction).runs.equals(first.runs)


def test_interrupted_grids_report_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(trials: list[Trial], **_: object) -> Trials:
        return Trials([])

    monkeypatch.setattr("dmf_fast.experiments.running.cached_trials.fit_many", interrupted)

    with pytest.raises(KeyboardInterrupt):
        run_grid(TINY, Reproduction(tmp_path, progress=False))


def test_the_matrix_of_least_nuclear_norm_has_no_larger_norm_than_the_truth(tmp_path: Path) -> None:
    results = run_grid(TINY, Reproduction(tmp_path, progress=False))

    for observed, seed in product(TINY.observed, range(2)):
        truth = torch.linalg.svdvals(TINY.problem(observed, seed).truth).sum().item()
        assert results.of_convex("nuclear_norm", observed)[seed] <= truth * (1 + 1e-3)


def test_errors_by_scale_is_reproduced_by_errors_in_the_order_of_the_paper() -> None:
    # All recover, so that the last claim holds as well.
    results = made_up(lambda measure, depth, scale: scale * 10.0**-depth, lambda measure: 1e-5)

    assert verdicts(scales.claims(results)) == [True] * 4


def test_errors_by_scale_are_not_reproduced_by_errors_in_the_reverse_order() -> None:
    results = made_up(lambda measure, depth, scale: 10.0**depth / scale, lambda measure: 1.0)

    assert verdicts(scales.claims(results)) == [False] * 4


def test_figure_2_is_reproduced_only_where_the_rank_is_lower_and_the_norm_larger() -> None:
    found = {"reconstruction_mse": 1e-5, "nuclear_norm": 10.0, "effective_rank": 1.1}
    worse = {"reconstruction_mse": 1e-2, "nuclear_norm": 9.0, "effective_rank": 2.0}

    lower_rank = made_up(lambda measure, depth, scale: found[measure], worse.__getitem__)
    lower_norm = made_up(lambda measure, depth, scale: worse[measure], found.__getitem__)

    # In both the norms disagree, with many entries too.
    assert verdicts(spectra_claims(lower_rank)) == [True, True, False]
    assert verdicts(spectra_claims(lower_norm)) == [False, False, False]


def test_figure_2_sees_the_least_norm_where_many_entries_are_observed() -> None:
    same = {"reconstruction_mse": 1e-5, "nuclear_norm": 10.0, "effective_rank": 1.1}

    results = made_up(lambda measure, depth, scale: same[measure], same.__getitem__)

    assert verdicts(spectra_claims(results)) == [False, False, True]


SAME = {"reconstruction_mse": 1e-5, "nuclear_norm": 10.0, "effective_rank": 1.1}
FOUND = {"reconstruction_mse": 1e-5, "nuclear_norm": 10.2, "effective_rank": 1.1}
LEAST = {"reconstruction_mse": 1e-2, "nuclear_norm": 10.0, "effective_rank": 2.0}


def with_one_run(results: GridResults, measure: str, value: float, **labels: float) -> GridResults:
    """Return the results with another number in the run of the last seed that has the labels."""
    labels = {"seed": results.grid.seeds - 1, "init_scale": 1e-4} | labels
    rows = results.runs.to_pylist()
    (row,) = (row for row in rows if all(row[name] == label for name, label in labels.items()))
    row[measure] = value
    return replace(results, runs=pa.Table.from_pylist(rows))


def test_one_seed_whose_norm_is_as_small_as_the_least_refutes_that_norms_are_given_up() -> None:
    results = made_up(lambda measure, depth, scale: FOUND[measure], LEAST.__getitem__)
    assert verdicts(spectra_claims(results))[0]
    assert verdicts(spectra_claims(with_one_run(results, "nuclear_norm", 10.11, observed=60, depth=3)))[0]
    # Above, but by less than a hundredth; the paired test still says that it is above.
    one = with_one_run(results, "nuclear_norm", 10.09, observed=60, depth=3)
    assert verdicts(spectra_claims(one)) == [False, True, False]
    # Neither the other depths nor other scales nor many entries are looked at.
    for labels in ({"observed": 60, "depth": 2}, {"observed": 60, "depth": 3, "init_scale": 1e-3}):
        assert verdicts(spectra_claims(with_one_run(results, "nuclear_norm", 10.0, **labels)))[0]


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_one_seed_of_any_depth_that_misses_the_least_norm_refutes_that_all_find_it(depth: int) -> None:
    results = made_up(lambda measure, depth, scale: SAME[measure], SAME.__getitem__)
    assert verdicts(spectra_claims(results))[2]
    for norm, holds in ((10.09, True), (10.11, False), (9.89, False)):
        one = with_one_run(results, "nuclear_norm", norm, observed=100, depth=depth)
        assert verdicts(spectra_claims(one))[2] == holds
    assert verdicts(spectra_claims(with_one_run(results, "nuclear_norm", 20.0, observed=60, depth=depth)))[2]


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_one_seed_that_is_not_recovered_from_many_entries_refutes_that_all_recover(depth: int) -> None:
    results = made_up(lambda measure, depth, scale: scale * 10.0**-depth, lambda measure: 1e-5)
    for error, holds in ((9.9e-4, True), (1e-3, False)):
        one = with_one_run(results, "reconstruction_mse", error, observed=100, depth=depth)
        assert verdicts(scales.claims(one)) == [True, True, True, holds]


def test_a_nuclear_norm_that_does_not_recover_one_seed_refutes_it_too() -> None:
    results = made_up(lambda measure, depth, scale: scale * 10.0**-depth, lambda measure: 1e-5)
    rows = results.convex.to_pylist()
    (row,) = (row for row in rows if (row["observed"], row["seed"]) == (100, 3))
    row["reconstruction_mse"] = 2e-3
    one = replace(results, convex=pa.Table.from_pylist(rows))
    assert verdicts(scales.claims(one)) == [True, True, True, False]


def test_deeper_means_every_depth_from_3_on() -> None:
    def error(measure: str, depth: int, scale: float) -> float:
        return scale * {2: 1e-2, 3: 1e-3, 4: 1e-1}[depth]

    assert verdicts(scales.claims(made_up(error, lambda measure: 1e-3))) == [False, True, True, False]


GRID = CompletionGrid(
    size=12, observed=(60, 100), depths=(2, 3), init_scales=(1e-2, 1e-3), learning_rates=(2e-3, 1e-3), seeds=3
)
MEASURES = {"reconstruction_mse": 1.0, "nuclear_norm": 2.0, "effective_rank": 3.0}


def of_grid() -> GridResults:
    """Runs whose measures are told by their labels; the middle seed has the median."""
    runs = [
        {"observed": observed, "seed": seed, "depth": depth, "init_scale": scale, "lr": lr}
        | {name: one * observed * depth * scale * lr * (1 + seed) for name, one in MEASURES.items()}
        for observed in GRID.observed
        for seed in range(3)
        for depth in GRID.depths
        for scale in GRID.init_scales
        for lr in GRID.learning_rates
    ]
    convex = [
        {"observed": observed, "seed": seed}
        | {name: one * observed * (1 + seed) for name, one in MEASURES.items()}
        for observed in GRID.observed
        for seed in range(3)
    ]
    return GridResults(GRID, pa.Table.from_pylist(runs), pa.Table.from_pylist(convex), [])


def test_errors_by_scale_draws_the_errors_of_every_depth_by_scale_a_panel_for_each_number_and_rate() -> None:
    figure = panels(scales._picture(of_grid()))
    assert legends(figure) == [1]  # the last of the first row
    drawn = [curves(axes) for axes in figure]
    places = [(lr, observed) for lr in (2e-3, 1e-3) for observed in (60, 100)]
    for (lr, observed), found in zip(places, drawn, strict=True):
        for depth in (2, 3):
            x, y = found[f"depth {depth}"]
            assert x == [1e-3, 1e-2]
            assert y == pytest.approx([2 * observed * depth * scale * lr for scale in x])
        assert found["nuclear norm"][1] == [2.0 * observed] * 2


def test_figure_2_draws_every_measure_at_the_smallest_rate() -> None:
    found = figure2.spectra_of(of_grid())
    drawn = [curves(axes) for axes in panels(spectra.picture(found, "Rank 1"))]
    places = [(observed, MEASURES[name]) for observed in (60, 100) for name in found.measures]
    for (observed, one), lines in zip(places, drawn, strict=True):
        x, y = lines["depth 3"]
        assert y == pytest.approx([2 * one * observed * 3 * scale * 1e-3 for scale in x])
        assert lines["least nuclear norm"][1] == [2 * one * observed] * 2


def test_the_tables_have_medians_and_extremes() -> None:
    rows = scales._table(of_grid()).to_pylist()
    assert len(rows) == 2 * (1 + 2 * 2 * 2)
    assert rows[0] == {
        "observed": 60, "method": "nuclear norm", "initial scale": "–",
        "median error": 120.0, "least": 60.0, "largest": 180.0,
    }  # fmt: skip
    (row,) = (
        row for row in rows
        if (row["observed"], row["method"], row["initial scale"]) == (100, "depth 3, lr 0.002", "0.01")
    )  # fmt: skip
    assert [row[name] for name in ("least", "median error", "largest")] == pytest.approx(
        [100 * 3 * 0.01 * 0.002 * times for times in (1, 2, 3)]
    )
    rows = spectra.table(figure2.spectra_of(of_grid())).to_pylist()
    assert [(row["observed entries"], row["solution"]) for row in rows[:3]] == [
        (60, "depth 2"), (60, "depth 3"), (60, "least nuclear norm"),
    ]  # fmt: skip
    assert rows[1]["effective rank"] == pytest.approx(3 * 60 * 3 * 1e-3 * 1e-3 * 2)
    assert rows[2]["nuclear norm"] == 240.0


def test_figure_2_draws_and_lists_the_spectrum_of_the_ground_truth() -> None:
    truths = [np.linalg.svd(GRID.problem(60, seed).truth.numpy(), compute_uv=False) for seed in range(3)]
    norm = np.median([spectrum.sum() for spectrum in truths])
    shares = [spectrum[:5] / spectrum.sum() for spectrum in truths]  # of rank 5
    rank = np.median([np.exp(-(share * np.log(share)).sum()) for share in shares])

    drawn = [curves(axes) for axes in panels(spectra.picture(figure2.spectra_of(of_grid()), "Rank 1"))]
    for place in (0, 3):
        assert drawn[place]["ground truth"][1] == pytest.approx([norm, norm])
        assert drawn[place + 1]["ground truth"][1] == pytest.approx([rank, rank])
        assert "ground truth" not in drawn[place + 2]
    row = spectra.table(figure2.spectra_of(of_grid())).to_pylist()[3]
    assert (row["solution"], row["reconstruction error"]) == ("ground truth", 0.0)
    assert (row["nuclear norm"], row["effective rank"]) == pytest.approx((norm, rank))


def test_grids_have_the_sizes_that_the_claims_were_decided_at() -> None:
    rates, scales = (1e-3, 3e-4), (1e-3, 1e-4, 1e-5, 1e-6)
    full = CompletionGrid(100, 5, (2_000, 5_000), (2, 3, 4), scales, rates, 5, 1_000_000, 1e-6, 1e-3)
    assert full == FULL
    quick = CompletionGrid(60, 3, (720, 1_800), (2, 3, 4), (1e-3, 1e-5), (3e-3,), 2, 15_000, 1e-6, 1e-3)
    assert quick == QUICK
    assert (FULL.degrees_of_freedom, QUICK.degrees_of_freedom) == (500 + 475, 180 + 171)


def failing_at_depth_4(measure: str, depth: int, scale: float) -> float:
    """Return errors in the order of the paper, but for depth 4 from the larger scale."""
    return 0.5 if (depth, scale) == (4, 1e-3) else scale * 10.0**-depth


def test_errors_by_scale_says_at_which_scales_and_rates_a_statement_does_not_hold() -> None:
    deeper, convex, smaller, many = scales.claims(made_up(failing_at_depth_4, lambda measure: 1e-4))

    assert verdicts([deeper, convex, smaller, many]) == [True] * 4  # at the smallest scale
    assert "1 of 2 pairs of scale and learning rate, not at scale 0.001 with rate 0.003" in deeper.evidence
    assert "depth 4 at scale 0.001 and rate 0.003: 5 of 5 seeds" in deeper.evidence
    assert "depth 3 at" not in deeper.evidence
    assert "2 of 2 pairs of scale and learning rate." in convex.evidence
    assert "1 of 1 pairs" in smaller.evidence  # the largest scale has no larger one
    assert "1 of 2 pairs" in many.evidence


def test_errors_by_scale_says_where_every_depth_from_3_on_recovers() -> None:
    deeper = scales.claims(made_up(lambda measure, depth, scale: scale * 10.0**-depth, lambda measure: 1.0))[
        0
    ]

    assert deeper.evidence.endswith("An error of 0.001 or more from depth 3 on: in no run.")


def test_one_table_decides_every_statement_at_every_scale_and_rate() -> None:
    results = made_up(failing_at_depth_4, lambda measure: 1e-4)
    rows = scales._where(results).to_pylist()

    assert len(rows) == 4 * 2
    by_scale = {
        scale: [row["verdict"] for row in rows if row["initial scale"] == scale]
        for scale in ("0.001", "0.0001")
    }
    assert sorted(by_scale["0.0001"]) == ["reproduced"] * 4
    assert sorted(by_scale["0.001"]) == ["not reproduced", "not reproduced", "not tested", "reproduced"]
    assert {row["learning rate"] for row in rows} == {"0.003"}
