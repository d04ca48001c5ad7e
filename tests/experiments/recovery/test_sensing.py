"""The sensing experiment on problems so small that they take a moment: rows, cache, claims, figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from dmf_fast.convex.sensing import minimum_nuclear_norm_sensing
from dmf_fast.experiments.page.section import Section, Work
from dmf_fast.experiments.recovery import sensing, sensing_runs
from dmf_fast.experiments.recovery.sensing_grid import (
    FULL,
    FULL_SWEEP,
    PAPER_SIZE,
    PAPER_SIZE_SWEEP,
    QUICK,
    QUICK_SWEEP,
    SensingGrid,
    grids,
)
from dmf_fast.experiments.recovery.sensing_runs import SensingResults, run_sensing_grids
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.sensing import Measurements, gaussian_measurements

TINY = SensingGrid(
    size=8,
    rank=1,
    measured=(25, 60),
    depths=(2, 3),
    init_scales=(1e-1, 1e-2),
    learning_rate=3e-2,
    seeds=2,
    steps=300,
    train_loss_threshold=1e-2,
)
TINY_SWEEP = replace(TINY, measured=(20, 60), init_scales=(1e-2,), nested=True)


def reproduction(folder: Path) -> Reproduction:
    return Reproduction(folder, quick=True, progress=False)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[SensingResults]:
    return run_sensing_grids([TINY, TINY_SWEEP], reproduction(tmp_path_factory.mktemp("sensing")))


@pytest.fixture(scope="module")
def results(both: list[SensingResults]) -> SensingResults:
    return both[0]


def results_with(few: dict[int, list[float]], convex: list[float], many: float = 1e-6) -> SensingResults:
    """Results with these errors by depth at the smallest scale; at the other they are twice as large."""
    runs = [
        {
            "measured": measured,
            "seed": seed,
            "depth": depth,
            "init_scale": scale,
            "reconstruction_mse": size * error,
        }
        for measured, by_depth in ((25, few), (60, dict.fromkeys(few, [many] * len(convex))))
        for depth, errors in by_depth.items()
        for seed, error in enumerate(errors)
        for scale, size in ((1e-1, 2), (1e-2, 1))
    ]
    problems = [
        {"measured": measured, "seed": seed, "reconstruction_mse": error}
        for measured, errors in ((25, convex), (60, [many] * len(convex)))
        for seed, error in enumerate(errors)
    ]
    return SensingResults(TINY, pa.Table.from_pylist(runs), pa.Table.from_pylist(problems))


def test_every_problem_is_solved_in_every_way(results: SensingResults) -> None:
    assert results.runs.num_rows == 2 * 2 * 2 * 2
    assert results.convex.num_rows == 2 * 2
    for measured in TINY.measured:
        for depth in TINY.depths:
            for scale in TINY.init_scales:
                labels: dict[str, Any] = {"measured": measured, "depth": depth, "init_scale": scale}
                losses, why = (results.of_runs(name, **labels) for name in ("train_loss", "stopped_because"))
                assert losses.shape == (2,)
                assert np.array_equal(losses <= 1e-2, why == "train_loss_threshold")


def test_many_measurements_recover_the_matrix(results: SensingResults) -> None:
    assert results.of_runs("reconstruction_mse", measured=60, depth=3).max() < 5e-2  # an entry is 1
    assert results.of_convex("reconstruction_mse", 60).max() < 1e-6


def test_norm_and_effective_rank_are_those_of_the_matrices(both: list[SensingResults]) -> None:
    for results in both:
        # Where the matrix is recovered, of rank 1 and Frobenius norm 8, its nuclear norm is 8.
        np.testing.assert_allclose(results.of_convex("nuclear_norm", 60), 8.0, rtol=1e-4)
        np.testing.assert_allclose(results.of_convex("effective_rank", 60), 1.0, atol=1e-3)
        np.testing.assert_allclose(results.of_runs("nuclear_norm", measured=60, depth=3), 8.0, rtol=0.05)
        assert results.of_runs("effective_rank", measured=60, depth=3).max() < 1.5


def test_a_sweep_takes_the_first_of_the_same_measurements(both: list[SensingResults]) -> None:
    alone, swept = both
    assert swept.runs.num_rows == 2 * 2 * 2
    # From all of them its runs are those of the grid whose numbers have measurements of their own.
    for depth in (2, 3):
        labels = {"measured": 60, "depth": depth, "init_scale": 1e-2}
        for name in ("steps", "reconstruction_mse"):
            expected = alone.of_runs(name, **labels).astype(float)
            np.testing.assert_allclose(swept.of_runs(name, **labels).astype(float), expected, rtol=1e-2)


def test_a_sweep_solves_for_the_first_measurements_only() -> None:
    rows = sensing_runs._rows(TINY_SWEEP, (20, 60), 1, lambda: False).to_pylist()
    measurements = gaussian_measurements(TINY_SWEEP.truth(1), 60, 1)
    first = Measurements(measurements.matrices[:20], measurements.values[:20])
    found = minimum_nuclear_norm_sensing(first).product
    (convex,) = (row for row in rows if row["depth"] is None and row["measured"] == 20)
    assert convex["nuclear_norm"] == pytest.approx(np.linalg.norm(found.numpy(), "nuc"))
    assert convex["reconstruction_mse"] == pytest.approx(
        np.square(found.numpy() - TINY_SWEEP.truth(1).numpy()).mean()
    )


def test_work_is_the_sum_of_all_steps(results: SensingResults) -> None:
    work = results.work()

    assert sum(one.steps for one in work) == sum(results.runs["steps"].to_pylist())
    assert {(one.task, one.dims, one.observed) for one in work} == {
        ("sensing", (8,) * (depth + 1), measured) for depth in (2, 3) for measured in (25, 60)
    }
    assert isinstance(work[0], Work)


def test_a_finished_problem_is_not_solved_again(
    tmp_path: Path, results: SensingResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = run_sensing_grids([TINY], reproduction(tmp_path))
    solved: list[tuple[tuple[int, ...], int]] = []
    solve = sensing_runs._rows

    def counted(grid: SensingGrid, counts: tuple[int, ...], *given: Any) -> pa.Table:
        solved.append((counts, given[0]))
        return solve(grid, counts, *given)

    monkeypatch.setattr(sensing_runs, "_rows", counted)

    (again,) = run_sensing_grids([TINY], reproduction(tmp_path))
    assert solved == []
    assert again.runs.equals(first.runs)
    assert again.convex.equals(first.convex)

    run_sensing_grids([replace(TINY, seeds=3)], reproduction(tmp_path))
    assert sorted(solved) == [((25,), 2), ((60,), 2)]
    solved.clear()
    run_sensing_grids([replace(TINY, learning_rate=2e-2, seeds=1)], reproduction(tmp_path))
    assert sorted(solved) == [((25,), 0), ((60,), 0)]
    solved.clear()
    run_sensing_grids([replace(TINY_SWEEP, seeds=1)], reproduction(tmp_path))
    assert solved == [((20, 60), 0)]


def test_problems_are_the_same_in_every_call(tmp_path: Path, results: SensingResults) -> None:
    (again,) = run_sensing_grids([TINY], reproduction(tmp_path))

    np.testing.assert_allclose(
        again.runs["reconstruction_mse"].to_numpy(), results.runs["reconstruction_mse"].to_numpy(), rtol=1e-2
    )


def test_ctrl_c_keeps_what_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Requested:
        requested = True

        def __enter__(self) -> Requested:
            return self

        def __exit__(self, *error: object) -> None: ...

    run_sensing_grids([replace(TINY, seeds=1)], reproduction(tmp_path))
    kept = sorted(tmp_path.rglob("*.parquet"))
    threads = torch.get_num_threads()
    monkeypatch.setattr(sensing_runs, "DeferredInterrupt", Requested)

    with pytest.raises(KeyboardInterrupt):
        run_sensing_grids([TINY], reproduction(tmp_path))
    assert sorted((tmp_path / "sensing").iterdir()) == kept
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("few", "convex", "verdicts"),
    [
        ({2: [1e-2, 2e-2], 3: [1e-5, 1e-5]}, [0.1, 0.2], ["reproduced"] * 4),
        ({2: [1e-5, 2e-5], 3: [1e-5, 1e-2]}, [0.1, 0.2], ["not reproduced", *["reproduced"] * 3]),
        (
            {2: [1e-2, 2e-2], 3: [1e-5, 1e-5]},
            [0.1, 1e-3],
            ["reproduced", "not reproduced", *["reproduced"] * 2],
        ),
        ({2: [1e-2, np.nan], 3: [1e-5, 1e-5]}, [0.1, 0.1], [*["not reproduced"] * 3, "reproduced"]),
    ],
)
def test_the_data_decide(few: dict[int, list[float]], convex: list[float], verdicts: list[str]) -> None:
    assert [claim.verdict for claim in sensing.claims(results_with(few, convex))] == verdicts


def test_the_evidence_says_at_which_scales_a_claim_holds() -> None:
    # At the other scale errors are twice as large: depth 2 is no better than the nuclear norm there.
    evidence = [claim.evidence for claim in sensing.claims(results_with({2: [0.06], 3: [1e-5]}, [0.1]))]

    assert evidence[0].endswith(". It holds at 2 of 2 scales.")
    assert evidence[1].endswith(". It holds at 1 of 2 scales, not at 0.1.")
    assert evidence[2].endswith(". It holds at 1 of 1 scales.")


def test_a_matrix_that_is_not_recovered_from_many_measurements_shows() -> None:
    claims = sensing.claims(results_with({2: [1e-2], 3: [1e-5]}, [0.1], many=2e-3))

    assert claims[-1].verdict == "not reproduced"
    assert "depth 2: 0.002; depth 3: 0.002; nuclear norm: 0.002" in claims[-1].evidence


@pytest.fixture(scope="module")
def section(tmp_path_factory: pytest.TempPathFactory) -> Section:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sensing, "grids", lambda _: (TINY, TINY_SWEEP))
        return sensing.run(reproduction(tmp_path_factory.mktemp("section")))


def test_the_section_says_what_was_done(section: Section, both: list[SensingResults]) -> None:
    assert "8 × 8" in section.settings["matrix"]
    assert section.settings["measurements"].startswith("25 (1.67), 60 (4.00), in brackets")
    assert section.settings["seeds"].startswith("2, ")
    assert section.settings["sweep"] == (
        "20, 60 measurements, the first of the same ones; depths 2, 3 from 0.01, learning rate 0.03, at most "
        "300 steps"
    )
    assert "15 degrees of freedom" in section.introduction
    assert "errors below 1e-07" in section.figures[0].caption
    assert len(section.claims) == 4 + 2 + 2
    for text in ("depth 2", "depth 3", "nuclear norm", "25 measurements", "60 measurements"):
        assert text in section.figures[0].svg
    assert sum(one.steps for one in section.work) == pytest.approx(
        sum(sum(one.runs["steps"].to_pylist()) for one in both), rel=1e-2
    )


def test_the_table_has_a_row_for_every_way_and_number(section: Section) -> None:
    rows = section.tables[0].table.to_pylist()

    assert [row["measurements"] for row in rows] == [25] * 5 + [60] * 5
    assert all(row["least"] <= row["median error"] <= row["largest"] for row in rows)
    assert rows[0]["median steps"] is None
    assert rows[1]["runs"] == 2
    runs = [row for row in rows if row["runs"] is not None]
    assert all(0 <= row["that reached the train loss"] <= 2 for row in runs)
    # One that has reached it has made fewer steps than there are.
    assert {row["that reached the train loss"] == 2 for row in runs if row["median steps"] < 300} == {True}


@pytest.mark.parametrize(("grid", "paper"), [(FULL, False), (QUICK, False), (PAPER_SIZE, True)])
def test_the_grids_measure_below_and_above_what_the_nuclear_norm_needs(
    grid: SensingGrid, paper: bool
) -> None:
    assert grid.degrees_of_freedom < grid.few < grid.statistical_dimension < grid.many
    # Twice the degrees of freedom, as the paper measures, leaves a margin only at its own size.
    assert (grid.few == pytest.approx(2 * grid.degrees_of_freedom, rel=0.03)) == paper


@pytest.mark.parametrize("swept", [FULL_SWEEP, QUICK_SWEEP, PAPER_SIZE_SWEEP])
def test_sweeps_have_numbers_on_both_sides_of_the_margin(swept: SensingGrid) -> None:
    shares = [count / swept.statistical_dimension for count in swept.measured]
    assert sum(share <= 0.9 for share in shares) >= 2
    assert sum(share >= 1.1 for share in shares) >= 1
    assert any(0.9 < share < 1.1 for share in shares)
    assert min(swept.measured) > swept.degrees_of_freedom
    assert swept.nested
    assert (swept.depths, len(swept.init_scales)) == ((2, 3), 1)


def test_every_extent_has_its_grids() -> None:
    assert grids(Reproduction(Path())) == (FULL, FULL_SWEEP)
    assert grids(Reproduction(Path(), quick=True)) == (QUICK, QUICK_SWEEP)
    assert grids(Reproduction(Path(), paper_size=True)) == (PAPER_SIZE, PAPER_SIZE_SWEEP)
    assert SensingGrid(50, 3, (500, 1_000), (2, 3, 4), (1e-3, 1e-4, 1e-5, 1e-6), 1e-3, 5, 100_000) == FULL
    assert SensingGrid(20, 1, (65, 200), (2, 3, 4), (1e-3, 1e-5), 2e-3, 2, 10_000, 1e-6) == QUICK
    assert (PAPER_SIZE.size, PAPER_SIZE.rank, PAPER_SIZE.measured) == (100, 5, (2_000, 5_000))
    assert (FULL_SWEEP.init_scales, FULL_SWEEP.learning_rate, FULL_SWEEP.seeds) == ((1e-6,), 3e-3, 5)
