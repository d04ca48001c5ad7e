"""Errors against the number of observed entries: which runs are made, what is drawn, and what decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dmf_fast.experiments.page.section import Claim
from dmf_fast.experiments.recovery import entries
from dmf_fast.experiments.recovery.completion_grid import FULL, CompletionGrid, GridResults
from dmf_fast.experiments.recovery.completion_grid import trials as trials_of_grid
from dmf_fast.experiments.recovery.entries_claims import claims
from dmf_fast.experiments.recovery.entries_runs import errors_by_method, factorizations, run_entries
from dmf_fast.experiments.reproduction import Reproduction
from tests.experiments.pictures import curves, legends, panels

pytestmark = pytest.mark.usefixtures("figures")

# 19 and 36 degrees of freedom.
LOW = CompletionGrid(
    size=10, rank=1, observed=(30, 50, 90), init_scales=(1e-3, 1e-6), learning_rates=(1e-3,), seeds=5
)
HIGH = replace(LOW, rank=2, observed=(38, 60, 95))
METHODS = ("nuclear norm", "depth 2", "depth 3", "depth 4", "depth 2 from 1e-06")
Errors = Callable[[str, int], float]


def made_up(grid: CompletionGrid, error: Errors) -> GridResults:
    """Return results where an error depends on method and number of entries, but for little noise."""
    noise = np.random.default_rng(0).uniform(0.99, 1.01, (len(METHODS), grid.seeds))
    runs, convex = [], []
    for place, method in enumerate(METHODS):
        labels = factorizations(grid).get(method)
        for observed, seed in product(grid.observed, range(grid.seeds)):
            row = {
                "observed": observed,
                "seed": seed,
                "reconstruction_mse": error(method, observed) * noise[place, seed],
            }
            if labels is None:
                convex.append(row)
            else:
                ended = {"lr": 1e-3, "stopped_because": "steps" if seed == 0 else "train_loss_threshold"}
                runs.append(row | labels | ended)
    return GridResults(grid, pa.Table.from_pylist(runs), pa.Table.from_pylist(convex), [])


def of_table(table: Mapping[str, tuple[float, float, float]], grid: CompletionGrid) -> GridResults:
    """Return results with the errors of a table, one column for each number of entries."""
    return made_up(grid, lambda method, observed: table[method][grid.observed.index(observed)])


AS_IN_THE_PAPER = {
    "nuclear norm": (0.3, 0.1, 1e-7),
    "depth 2": (0.4, 0.2, 1e-4),
    "depth 3": (0.01, 1e-4, 1e-6),
    "depth 4": (0.1, 1e-4, 1e-6),
    "depth 2 from 1e-06": (0.2, 0.01, 1e-6),
}
FAILING_FIRST = AS_IN_THE_PAPER | {"depth 3": (0.9, 1e-4, 1e-6), "depth 4": (2.0, 1e-4, 1e-6)}


def decide(
    low: Mapping[str, tuple[float, float, float]] | None = None,
    high: Mapping[str, tuple[float, float, float]] | None = None,
) -> list[Claim]:
    """Decide with some rows of the tables changed."""
    return claims(
        of_table(AS_IN_THE_PAPER | dict(low or {}), LOW), of_table(FAILING_FIRST | dict(high or {}), HIGH)
    )


def verdicts(decided: list[Claim]) -> list[bool]:
    return [claim.verdict == "reproduced" for claim in decided]


def test_errors_as_in_the_paper_reproduce_all_statements() -> None:
    decided = decide()

    assert verdicts(decided) == [True] * 6
    assert decided[0].evidence.startswith("50 entries (2.63 per degree of freedom): depth 3 at most")
    assert "30 entries" not in decided[0].evidence
    assert decided[1].evidence.startswith("60 entries (1.67 per degree of freedom): depth 3 at most")
    assert "both at 30, 50 entries" in decided[2].evidence


@pytest.mark.parametrize("method", ["nuclear norm", "depth 2", "depth 2 from 1e-06"])
def test_depth_3_is_not_alone_where_another_recovers_a_seed(method: str) -> None:
    wide = AS_IN_THE_PAPER[method]
    assert verdicts(decide(low={method: (wide[0], 9.95e-4, wide[2])}))[0] is False
    assert verdicts(decide(low={method: (wide[0], 1.02e-3, wide[2])}))[0] is True


def test_depth_3_recovers_only_where_it_does_in_every_seed() -> None:
    assert verdicts(decide(low={"depth 3": (0.01, 9.8e-4, 1e-6)}))[0] is True
    decided = decide(low={"depth 3": (0.01, 9.95e-4, 1e-6)})
    assert verdicts(decided)[0] is False
    assert "No such number among 30, 50, 90 entries" in decided[0].evidence


def test_the_start_decides_only_where_both_orders_hold_at_one_number() -> None:
    # Worse from the large scale at 30 alone, better from the small one at 50 alone.
    decided = decide(low={"depth 2": (0.4, 0.05, 1e-4), "depth 2 from 1e-06": (0.35, 0.01, 1e-6)})

    assert verdicts(decided)[2] is False
    assert "its error is larger at 30 entries" in decided[2].evidence
    assert "smaller at 50 entries" in decided[2].evidence
    assert "both at no number of entries" in decided[2].evidence


def test_numbers_from_which_the_nuclear_norm_recovers_say_nothing_of_the_start() -> None:
    recovered = (1e-5, 1e-6, 1e-7)
    better = {"nuclear norm": recovered, "depth 2": (0.4, 0.2, 0.1), "depth 2 from 1e-06": (1e-8, 1e-8, 1e-8)}
    assert verdicts(decide(low=better))[2] is False


@pytest.mark.parametrize(
    "change",
    [{"depth 3": (0.3, 1e-4, 1e-6)}, {"depth 4": (0.8, 1e-4, 1e-6)}, {"nuclear norm": (9e-4, 0.1, 1e-7)}],
)
def test_from_too_few_entries_all_fail_and_every_depth_errs_more_than_the_one_before(
    change: dict[str, tuple[float, float, float]],
) -> None:
    assert verdicts(decide(high=change)) == [True, True, True, False, True, True]


@pytest.mark.parametrize(
    ("change", "seeds"),
    [({"depth 3": (0.9, 2e-3, 1e-6)}, "0 of 5"), ({"nuclear norm": (0.3, 9e-4, 1e-7)}, "5 of 5")],
)
def test_from_a_few_more_entries_depth_3_must_recover_and_the_nuclear_norm_must_not(
    change: dict[str, tuple[float, float, float]], seeds: str
) -> None:
    decided = decide(high=change)
    assert verdicts(decided) == [True, False, True, True, False, True]
    assert f"from 60 entries (1.67 per degree of freedom) {seeds} seeds" in decided[4].evidence


def test_depth_3_must_recover_from_the_most_entries_as_well() -> None:
    assert verdicts(decide(high={"depth 3": (0.9, 1e-4, 2e-3)})) == [True, True, True, True, False, False]


@pytest.mark.parametrize("method", METHODS)
def test_from_many_entries_every_method_must_recover(method: str) -> None:
    low, high = AS_IN_THE_PAPER[method], FAILING_FIRST[method]
    assert verdicts(decide(low={method: (low[0], low[1], 2e-3)}))[5] is False
    assert verdicts(decide(high={method: (high[0], high[1], 2e-3)}))[5] is False
    assert verdicts(decide(low={method: (low[0], low[1], 9e-4)}))[5] is True


def test_all_depths_run_from_one_scale_and_depth_2_from_the_smaller_one_as_well(tmp_path: Path) -> None:
    grid = replace(LOW, observed=(30, 90), init_scales=(1e-2,), seeds=2, steps=5)
    results = run_entries(grid, 1e-4, Reproduction(tmp_path, progress=False))

    runs = results.runs.select(["observed", "seed", "depth", "init_scale", "lr"]).to_pylist()
    assert {(run["depth"], run["init_scale"]) for run in runs} == {(2, 1e-2), (3, 1e-2), (4, 1e-2), (2, 1e-4)}
    assert len(runs) == 2 * 2 * 4
    assert len(results.convex) == 2 * 2
    assert results.grid.init_scales == (1e-2, 1e-4)
    assert sum(work.steps for work in results.work) == 5 * len(runs)
    errors = errors_by_method(results, 90)
    assert list(errors) == ["nuclear norm", "depth 2", "depth 3", "depth 4", "depth 2 from 0.0001"]
    assert all(found.shape == (2,) for found in errors.values())


def test_scales_and_entries_share_runs() -> None:
    shared = replace(entries.RANK_5, observed=(2_000,), depths=(2,), seeds=1)
    keys = {trial.key() for trial in trials_of_grid(replace(FULL, depths=(2,), seeds=1, observed=(2_000,)))}
    assert {trial.key() for trial in trials_of_grid(shared)} < keys


def test_entries_are_from_few_to_many_for_their_degrees_of_freedom() -> None:
    for grid in (entries.RANK_5, entries.RANK_10):
        assert (grid.size, grid.depths, grid.seeds) == (100, (2, 3, 4), 5)
        assert (grid.init_scales, grid.learning_rates) == ((1e-3,), (1e-3,))
    assert (entries.RANK_5.few, entries.RANK_5.many, entries.RANK_5.degrees_of_freedom) == (1_250, 5_000, 975)
    assert (entries.RANK_10.few, entries.RANK_10.many) == (2_000, 6_000)
    assert entries.RANK_10.degrees_of_freedom == 1_900
    assert (entries.QUICK_LOW_RANK.degrees_of_freedom, entries.QUICK_HIGH_RANK.degrees_of_freedom) == (
        351,
        684,
    )


def test_errors_are_drawn_against_entries_with_degrees_of_freedom_above() -> None:
    both = (of_table(AS_IN_THE_PAPER, LOW), of_table(FAILING_FIRST, HIGH))
    low, high = panels(entries._picture(both))

    assert legends([low, high]) == []  # one below both
    for axes, table, counts in ((low, AS_IN_THE_PAPER, LOW.observed), (high, FAILING_FIRST, HIGH.observed)):
        drawn = curves(axes)
        for method in METHODS:
            assert drawn[method][0] == list(counts)
            assert drawn[method][1] == pytest.approx(table[method], rel=0.011)
    (top,) = low.child_axes
    FigureCanvasAgg(low.figure).draw()  # sets the limits of the axis above
    assert top.get_xlim() == pytest.approx([limit / 19 for limit in low.get_xlim()])
    assert "19 degrees of freedom" in top.get_xlabel()


def test_the_table_counts_the_seeds_that_recovered_and_that_were_trained() -> None:
    rows = entries._table(of_table(AS_IN_THE_PAPER, LOW)).to_pylist()

    assert len(rows) == 3 * 5
    assert rows[0]["per degree of freedom"] == pytest.approx(30 / 19)
    convex, deep = rows[0], rows[7]
    assert (convex["method"], convex["seeds that reached the train loss"]) == ("nuclear norm", None)
    assert (deep["observed"], deep["method"], deep["seeds recovered"]) == (50, "depth 3", 5)
    assert deep["seeds that reached the train loss"] == 4
    assert deep["least"] <= deep["median error"] <= deep["largest"]


def test_the_settings_say_what_both_grids_have() -> None:
    settings = entries._settings(LOW, replace(HIGH, steps=7))

    assert settings["observed entries"] == "30, 50, 90 (rank 1) and 38, 60, 95 (rank 2)"
    assert settings["rank"] == "1 and 2, of 19 and 36 degrees of freedom"
    assert settings["initialization"] == "Gaussian, scale 0.001; depth 2 1e-06, too"
    assert settings["stopped"].endswith("after 1,000,000 steps (rank 1) and 7 (rank 2)")
