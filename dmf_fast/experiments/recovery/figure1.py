"""Figure 1 of Arora, Cohen, Hu & Luo (NeurIPS 2019): depth completes a matrix better than the nuclear norm.

Reconstruction error against the scale of the initialization, for depths 2, 3 and 4, and for nuclear-norm
minimization, with few and with many observed entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pyarrow as pa
from matplotlib.axes import Axes

from dmf_fast.experiments.page.figure_style import add_legend, new_figure
from dmf_fast.experiments.page.section import Claim, Picture, ResultTable, Section
from dmf_fast.experiments.recovery.completion_grid import FULL, QUICK, CompletionGrid, GridResults, run_grid
from dmf_fast.experiments.recovery.reconstruction import (
    ReconstructionErrors,
    draw_errors,
    error_row,
    reconstruction_claims,
)
from dmf_fast.experiments.reproduction import Reproduction

_RANK_10 = replace(FULL, rank=10, learning_rates=(1e-3,), seeds=3)
_ERROR = "reconstruction_mse"


def run(reproduction: Reproduction) -> Section:
    """Complete matrices of rank 5, and unless ``quick`` of rank 10, and compare the errors."""
    grids = [QUICK] if reproduction.quick else [FULL, _RANK_10]
    results = [run_grid(grid, reproduction) for grid in grids]
    return Section(
        title="Matrix completion: reconstruction error against initialization",
        introduction=(
            "A random matrix of low rank is completed from some of its entries, by gradient descent on the "
            "squared error of a product of 2, 3 or 4 square matrices, and by nuclear-norm minimization. The "
            "error is the mean square over all entries of the matrix; an entry is about 1 in size. Lines are "
            "medians over the seeds, bands reach from the least to the largest."
        ),
        settings=_settings(grids),
        claims=claims(results[0]),
        figures=[_picture(result) for result in results],
        tables=[
            ResultTable(_table(result), f"Reconstruction error, rank {result.grid.rank}.")
            for result in results
        ],
        work=[work for result in results for work in result.work],
    )


def claims(results: GridResults) -> list[Claim]:
    """Decide on what figure 1 claims, at the smallest initialization and learning rate."""
    grid = results.grid
    small, large = min(grid.init_scales), max(grid.init_scales)
    with_many = {f"depth {n}": results.of_runs(_ERROR, observed=grid.many, depth=n) for n in grid.depths}
    errors = ReconstructionErrors(
        data="observed entries",
        few=grid.few,
        many=grid.many,
        init_scales=(small, large),
        by_depth={n: results.of_runs(_ERROR, observed=grid.few, depth=n) for n in grid.depths},
        from_large_start=results.of_runs(_ERROR, observed=grid.few, depth=2, init_scale=large),
        convex=results.of_convex(_ERROR, grid.few),
        with_many=with_many | {"nuclear norm": results.of_convex(_ERROR, grid.many)},
    )
    at = f"At an initial scale of {small:g} and a learning rate of {min(grid.learning_rates):g}"
    return reconstruction_claims(errors, at, "Arora et al. 2019, figure 1")


def _settings(grids: Sequence[CompletionGrid]) -> dict[str, str]:
    settings = grids[0].settings()
    for grid in grids[1:]:
        changed = {name: value for name, value in grid.settings().items() if value != settings[name]}
        settings[f"with rank {grid.rank}"] = "; ".join(
            f"{name}: {value}" for name, value in changed.items() if name != "rank"
        )
    return settings


def _table(results: GridResults) -> pa.Table:
    grid, rows = results.grid, []
    for observed in grid.observed:
        rows.append(error_row("observed", observed, "nuclear norm", "–", results.of_convex(_ERROR, observed)))
        for depth, lr, scale in product(grid.depths, grid.learning_rates, grid.init_scales):
            errors = results.of_runs(_ERROR, observed=observed, depth=depth, init_scale=scale, lr=lr)
            rows.append(error_row("observed", observed, f"depth {depth}, lr {lr:g}", f"{scale:g}", errors))
    return pa.Table.from_pylist(rows)


def _picture(results: GridResults) -> Picture:
    grid = results.grid
    figure, panels = new_figure(len(grid.observed), len(grid.learning_rates), share_x=True, share_y=True)
    for row, lr in zip(panels, grid.learning_rates, strict=True):
        for axes, observed in zip(row, grid.observed, strict=True):
            _draw(axes, results, observed, lr)
            axes.set_title(f"{observed:,} observed entries, learning rate {lr:g}")
        row[0].set_ylabel("reconstruction error")
    for axes in panels[-1]:
        axes.set_xlabel("scale of the initialization")
    add_legend(panels[0, -1])
    return Picture.of(
        figure,
        f"Rank {grid.rank}, {grid.size} × {grid.size}: reconstruction error against the scale of the "
        f"initialization. Medians and ranges over {grid.seeds} seeds.",
    )


def _draw(axes: Axes, results: GridResults, observed: int, lr: float) -> None:
    scales = sorted(results.grid.init_scales)
    errors = {
        depth: [
            results.of_runs(_ERROR, observed=observed, depth=depth, init_scale=scale, lr=lr)
            for scale in scales
        ]
        for depth in results.grid.depths
    }
    draw_errors(axes, scales, errors, results.of_convex(_ERROR, observed))
