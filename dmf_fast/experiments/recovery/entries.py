"""Reconstruction error against the number of observed entries, for matrices of two ranks.

The number of entries from which a matrix is recovered at depths 2, 3 and 4 and by nuclear-norm minimization,
compared with its degrees of freedom. Runs in common with `scales` are shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from matplotlib.axes import Axes

from dmf_fast.experiments.page.papers import ARORA
from dmf_fast.experiments.page.section import Section
from dmf_fast.experiments.recovery.completion_grid import FULL, CompletionGrid, GridResults
from dmf_fast.experiments.recovery.entries_claims import claims
from dmf_fast.experiments.recovery.entries_runs import errors_by_method, factorizations, run_entries
from dmf_fast.experiments.recovery.reconstruction import RECOVERED, error_summary
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.figure_style import (
    CURVE_STYLES,
    DEPTH_STYLES,
    NUCLEAR_NORM_STYLE,
    SMALL_FONT_SIZE,
    CurveStyle,
    add_legend,
    draw_spread,
    new_figure,
)
from dmf_fast.page.content import Picture, ResultTable

SMALLER_SCALE = 1e-6
RANK_5 = replace(
    FULL,
    observed=(1_250, 1_500, 1_750, 2_000, 2_500, 3_000, 5_000),
    init_scales=(1e-3,),
    learning_rates=(1e-3,),
)
# Runs that cannot recover the matrix would continue for a million steps.
RANK_10 = replace(RANK_5, rank=10, observed=(2_000, 2_500, 3_000, 6_000), steps=100_000)
QUICK_LOW_RANK = replace(
    RANK_5, size=60, rank=3, observed=(630, 720, 1_800), learning_rates=(3e-3,), seeds=2, steps=15_000
)
QUICK_HIGH_RANK = replace(QUICK_LOW_RANK, rank=6, observed=(720, 1_200, 2_160))


def run(reproduction: Reproduction) -> Section:
    """Complete matrices of two ranks from more and more of their entries."""
    grids = (QUICK_LOW_RANK, QUICK_HIGH_RANK) if reproduction.quick else (RANK_5, RANK_10)
    low, high = (run_entries(grid, SMALLER_SCALE, reproduction) for grid in grids)
    return Section(
        title="Matrix completion: reconstruction error against the number of observed entries",
        introduction=(
            "From how many of its entries is a matrix of low rank recovered? A matrix of size n × n and "
            "rank r has r (2n − r) degrees of freedom: from fewer entries nothing can recover it. All depths "
            "start from the larger scale, depth 2 from the smaller one as well. Lines are medians over the "
            "seeds, bands show the range; a matrix is recovered where the error is "
            f"below {RECOVERED:g}."
        ),
        settings=_settings(low.grid, high.grid),
        claims=claims(low, high),
        figures=[_picture((low, high))],
        tables=[
            ResultTable(
                _table(one),
                f"Reconstruction error, rank {one.grid.rank}, and in how many of "
                f"{one.grid.seeds} seeds the matrix was recovered and the train loss reached.",
            )
            for one in (low, high)
        ],
        work=[*low.work, *high.work],
        paper=ARORA,
    )


def _settings(low: CompletionGrid, high: CompletionGrid) -> dict[str, str]:
    return low.settings() | {
        "rank": f"{low.rank} and {high.rank}, of {low.degrees_of_freedom:,} and {high.degrees_of_freedom:,} "
        "degrees of freedom",
        "observed entries": " and ".join(
            ", ".join(f"{count:,}" for count in grid.observed) + f" (rank {grid.rank})"
            for grid in (low, high)
        ),
        "initialization": f"Gaussian, scale {max(low.init_scales):g}; depth 2 {min(low.init_scales):g}, too",
        "stopped": f"at a train loss of {low.train_loss_threshold:g}, or after {low.steps:,} steps (rank "
        f"{low.rank}) and {high.steps:,} (rank {high.rank})",
    }


def _table(results: GridResults) -> pa.Table:
    grid, runs = results.grid, factorizations(results.grid)
    rows: list[dict[str, Any]] = []
    for observed in grid.observed:
        count = {"observed": observed, "per degree of freedom": observed / grid.degrees_of_freedom}
        for method, errors in errors_by_method(results, observed).items():
            trained = None
            if method in runs:
                ends = results.of_runs("stopped_because", observed=observed, **runs[method])
                trained = int((ends == "train_loss_threshold").sum())
            rows.append(
                count
                | {"method": method}
                | error_summary(errors)
                | {
                    "seeds recovered": int((errors < RECOVERED).sum()),
                    "seeds that reached the train loss": trained,
                }
            )
    return pa.Table.from_pylist(rows)


def _picture(both: Sequence[GridResults]) -> Picture:
    figure, panels = new_figure(len(both), panel_width=4.6, panel_height=3.8, share_y=True)
    for axes, results in zip(panels[0], both, strict=True):
        _draw(axes, results)
    panels[0, 0].set_ylabel("reconstruction error")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    add_legend(figure, handles=handles, labels=labels, loc="outside lower center", ncols=len(labels))
    grid = both[0].grid
    return Picture.of(
        figure,
        f"{grid.size} × {grid.size}: reconstruction error against the number of observed entries. Medians "
        f"and ranges over {grid.seeds} seeds; below the dotted line, {RECOVERED:g}, a matrix is recovered.",
    )


def _draw(axes: Axes, results: GridResults) -> None:
    grid = results.grid
    counts = sorted(grid.observed)
    by_count = [errors_by_method(results, observed) for observed in counts]
    for method in by_count[0]:
        draw_spread(axes, counts, [errors[method] for errors in by_count], _style(method, grid), method)
    axes.axhline(RECOVERED, color="0.5", linestyle=":", linewidth=1)
    axes.set(xlabel="observed entries", yscale="log")
    freedom = grid.degrees_of_freedom

    def per_degree(counts: Any) -> Any:
        return counts / freedom

    def entries(ratios: Any) -> Any:
        return ratios * freedom

    top = axes.secondary_xaxis("top", functions=(per_degree, entries))
    top.set_xlabel(f"rank {grid.rank}: entries for each of the {freedom:,} degrees of freedom")
    top.tick_params(labelsize=SMALL_FONT_SIZE)


def _style(method: str, grid: CompletionGrid) -> CurveStyle:
    labels = factorizations(grid).get(method)
    if labels is None:
        return NUCLEAR_NORM_STYLE
    smaller = labels["init_scale"] < max(grid.init_scales)
    return CURVE_STYLES[5] if smaller else DEPTH_STYLES[int(labels["depth"])]
