"""The experiment on widths: what it measures of a run, and the rules that decide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from dmf_fast.experiments.recovery.widths import _plot, _table, claim_on_movielens, claims
from dmf_fast.experiments.recovery.widths_runs import (
    FULL,
    JOB,
    QUICK,
    WidthGrid,
    WidthResults,
    _trial,
    largest_tail_share,
    share_beyond,
)

GRID = WidthGrid(size=10, rank=1, depths=(2, 3), widths=(2, 4, 10), seeds=2)
HISTORY = pa.table(
    {
        "train_loss": [1.0, 0.6, 0.5, 0.1],
        "singular_value_1": [1.0, 2.0, 5.0, 6.0],
        "singular_value_2": [1.0, 2.0, 3.0, 3.0],
        "singular_value_3": [1.0, 2.0, 1.0, 0.0],
        "singular_value_4": [1.0, 2.0, 1.0, 1.0],
    }
)


def results(**changes: Any) -> WidthResults:
    """Return runs that fit every rule; ``changes`` are of the runs at depth 3 and width 4."""
    rows = []
    for depth in GRID.depths:
        for width in GRID.widths:
            for seed in range(GRID.seeds):
                narrow = width == 2
                row = {"depth": depth, "width": width, "seed": seed, "distance": 0.5 if narrow else 0.01}
                row |= {"tail_share": 0.3 if narrow else 0.005, "beyond": 0.001, "steps": 100 * width}
                row |= {"reconstruction_mse": 0.1 / width, "gaussian_mse": 0.02, "seconds": width / 10}
                row |= changes if (depth, width) == (3, 4) else {}
                rows.append(row)
    return WidthResults(GRID, pa.Table.from_pylist(rows), [])


def verdicts(**changes: Any) -> list[str]:
    return [claim.verdict for claim in claims(results(**changes))]


def test_the_tail_counts_once_half_the_loss_is_gone() -> None:
    assert largest_tail_share(HISTORY, 4, 0.0) == pytest.approx(0.2)
    assert largest_tail_share(HISTORY.slice(0, 2), 4, 0.0) == 0


def test_the_share_beyond_a_rank_is_that_of_the_last_state() -> None:
    assert share_beyond(HISTORY, 4, rank=1) == pytest.approx(0.4)
    assert share_beyond(HISTORY, 4, rank=2) == pytest.approx(0.1)


def test_all_statements_hold_where_wide_enough_chains_end_alike() -> None:
    assert verdicts() == ["reproduced"] * 3


@pytest.mark.parametrize(("distance", "second"), [(0.019, "reproduced"), (0.021, "not reproduced")])
def test_four_times_the_rank_must_end_within_2_percent(distance: float, second: str) -> None:
    assert verdicts(distance=distance)[1] == second


@pytest.mark.parametrize(
    ("share", "third"), [(0.01, "not reproduced"), (0.011, "reproduced"), (0.2, "reproduced")]
)
def test_a_run_that_is_far_off_must_show_it(share: float, third: str) -> None:
    assert verdicts(distance=0.06, tail_share=share)[2] == third


def test_a_chain_of_full_width_must_leave_its_directions_unused() -> None:
    wide = results()
    beyond = [0.02 if row["width"] == GRID.size else 0.0 for row in wide.runs.to_pylist()]
    runs = wide.runs.set_column(wide.runs.column_names.index("beyond"), "beyond", pa.array(beyond))
    assert claims(replace(wide, runs=runs))[0].verdict == "not reproduced"


@pytest.mark.parametrize(
    ("distance", "rmse", "verdict"),
    [(0.04, 0.951, "reproduced"), (0.06, 0.951, "not reproduced"), (0.04, 0.957, "not reproduced")],
)
def test_movielens_decides_by_product_and_validation_error(
    distance: float, rmse: float, verdict: str
) -> None:
    rows = [
        {"width": 16, "distance": distance, "validation_rmse": rmse, "seconds": 2.0},
        {"width": 943, "distance": 0.0, "validation_rmse": 0.95, "seconds": 60.0},
    ]
    assert claim_on_movielens(pa.Table.from_pylist(rows)).verdict == verdict


def test_without_movielens_nothing_is_tested() -> None:
    assert claim_on_movielens(None).verdict == "not tested"


def test_the_table_has_medians_and_the_gaussian_start() -> None:
    rows = _table(results()).to_pylist()
    assert [(row["start"], row["depth"], row["width"]) for row in rows] == [
        *(("spectral", depth, width) for depth in (2, 3) for width in (2, 4, 10)),
        ("Gaussian", 2, 10), ("Gaussian", 3, 10),
    ]  # fmt: skip
    assert rows[1]["reconstruction_mse"] == pytest.approx(0.025)
    assert rows[-1]["reconstruction_mse"] == pytest.approx(0.02)


def test_distances_are_drawn_below_the_full_width_and_times_at_all() -> None:
    distance, share, seconds = _plot(results()).axes
    assert distance.lines[0].get_xdata().tolist() == [2, 4]
    assert distance.lines[0].get_ydata().tolist() == [0.5, 0.01]
    assert share.lines[-1].get_ydata() == [0.01, 0.01]
    assert seconds.lines[0].get_xdata().tolist() == [2, 4, 10]


def test_runs_have_the_sizes_that_the_page_says() -> None:
    assert (FULL.size, FULL.rank, FULL.observed, FULL.seeds) == (100, 5, 2_000, 5)
    assert all(grid.widths[-1] == grid.size for grid in (FULL, QUICK))
    trial = _trial(QUICK, 3, 12, 1, "spectral")
    assert [tuple(factor.shape) for factor in trial.factors] == [(12, 60), (12, 12), (60, 12)]
    assert trial.options.train_loss_threshold == QUICK.train_loss_threshold
    assert (JOB.hidden, JOB.start, JOB.coordinates, JOB.depth) == ("auto", "spectral", "plain", 3)
