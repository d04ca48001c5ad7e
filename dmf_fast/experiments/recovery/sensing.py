"""Matrix sensing in Arora, Cohen, Hu & Luo (NeurIPS 2019): depth does better than the nuclear norm.

The counterpart of `scales` and `figure2` with Gaussian measurements in place of entries, and a sweep over
their number.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes

from dmf_fast.experiments.page.papers import ARORA
from dmf_fast.experiments.page.section import Claim, Section
from dmf_fast.experiments.recovery import sensing_sweep, spectra
from dmf_fast.experiments.recovery.reconstruction import (
    ReconstructionErrors,
    decided_at,
    draw_errors,
    error_row,
    reconstruction_claims,
)
from dmf_fast.experiments.recovery.sensing_grid import SensingGrid, grids
from dmf_fast.experiments.recovery.sensing_runs import SensingResults, run_sensing_grids
from dmf_fast.experiments.recovery.sensing_sweep import LEAST_SHOWN
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.figure_style import add_legend, new_figure
from dmf_fast.page.content import Picture, ResultTable

_ERROR = "reconstruction_mse"
_SOURCE = "Arora et al. 2019, on matrix sensing"


def run(reproduction: Reproduction) -> Section:
    """Reconstruct matrices from few and many measurements, and from numbers in between."""
    results, swept = run_sensing_grids(grids(reproduction), reproduction)
    grid, found = results.grid, spectra_of(results)
    return Section(
        title="Matrix sensing: reconstruction from Gaussian measurements",
        introduction=(
            "A random matrix of low rank is reconstructed from its inner products with random matrices, by "
            "gradient descent on the squared error of a product of 2, 3 or 4 square matrices, and by "
            "nuclear-norm minimization. The error is the mean square over all entries of the matrix; an "
            "entry is about 1 in size. A matrix of this rank has "
            f"{grid.degrees_of_freedom:,} degrees of freedom, and theory has the nuclear norm take about "
            f"{grid.statistical_dimension:,.0f} measurements, the statistical dimension of its descent cone. "
            "The last figure shows what becomes of numbers in between."
        ),
        settings=grid.settings() | _settings_of_sweep(swept.grid),
        claims=claims(results) + spectra.claims(found, _SOURCE) + sensing_sweep.claims(swept),
        figures=[
            _picture(results),
            spectra.picture(found, f"Rank {grid.rank}, {grid.size} × {grid.size}"),
            sensing_sweep.picture(swept),
        ],
        tables=[
            ResultTable(_table(results), "Reconstruction error, and steps to the train loss."),
            ResultTable(spectra.table(found), "Medians over the seeds at the smallest initialization."),
            ResultTable(sensing_sweep.table(swept), "Reconstruction error by number of measurements."),
        ],
        work=results.work() + swept.work(),
        paper=ARORA,
    )


def spectra_of(results: SensingResults) -> spectra.FoundSpectra:
    """Return the spectra of a grid; errors are drawn and decided separately."""
    grid = results.grid
    return spectra.FoundSpectra(
        data="measurements",
        counts=(grid.few, grid.many),
        depths=grid.depths,
        init_scales=grid.init_scales,
        measures=("nuclear_norm", "effective_rank"),
        of_runs=lambda measure, count, depth, scale: results.of_runs(
            measure, measured=count, depth=depth, init_scale=scale
        ),
        of_convex=results.of_convex,
        truths=[grid.truth(seed) for seed in range(grid.seeds)],
    )


def _settings_of_sweep(grid: SensingGrid) -> dict[str, str]:
    counts = ", ".join(f"{count:,}" for count in grid.measured)
    return {
        "sweep": f"{counts} measurements, the first of the same ones; depths "
        f"{', '.join(map(str, grid.depths))} from {min(grid.init_scales):g}, learning rate "
        f"{grid.learning_rate:g}, at most {grid.steps:,} steps",
        "statistical dimension": f"{grid.statistical_dimension:,.0f}, by the formula for large matrices",
    }


def claims(results: SensingResults) -> list[Claim]:
    """Decide the paper's claims about completion, at the smallest initialization.

    The evidence says at which other scales they hold.
    """
    scales = sorted(results.grid.init_scales)
    by_scale = {f"{scale:g}": _claims_at(results, scale) for scale in scales}
    return decided_at(f"{scales[0]:g}", by_scale, "scales")


def _claims_at(results: SensingResults, scale: float) -> list[Claim]:
    grid = results.grid
    errors = ReconstructionErrors.at(
        scale,
        "measurements",
        (grid.few, grid.many),
        grid.depths,
        grid.init_scales,
        lambda measured, depth, start: results.of_runs(
            _ERROR, measured=measured, depth=depth, init_scale=start
        ),
        partial(results.of_convex, _ERROR),
    )
    return reconstruction_claims(errors, f"At an initial scale of {scale:g}", _SOURCE)


def _table(results: SensingResults) -> pa.Table:
    grid, rows = results.grid, []
    for measured in sorted(grid.measured):
        convex = results.of_convex(_ERROR, measured)
        rows.append(error_row("measurements", measured, "nuclear norm", "–", convex))
        for depth, scale in product(grid.depths, grid.init_scales):
            labels = {"measured": measured, "depth": depth, "init_scale": scale}
            errors, steps, why = (
                results.of_runs(name, **labels) for name in (_ERROR, "steps", "stopped_because")
            )
            rows.append(
                error_row("measurements", measured, f"depth {depth}", f"{scale:g}", errors)
                | {"median steps": int(np.median(steps)), "runs": len(steps)}
                | {"that reached the train loss": int((why == "train_loss_threshold").sum())}
            )
    return pa.Table.from_pylist([dict.fromkeys(rows[1]) | row for row in rows])


def _picture(results: SensingResults) -> Picture:
    grid = results.grid
    figure, panels = new_figure(len(grid.measured), share_x=True, share_y=True)
    for axes, measured in zip(panels[0], grid.measured, strict=True):
        _draw(axes, results, measured)
        axes.set_title(f"{measured:,} measurements")
        axes.set_xlabel("scale of the initialization")
    panels[0, 0].set_ylabel("reconstruction error")
    add_legend(panels[0, -1])
    return Picture.of(
        figure,
        f"Rank {grid.rank}, {grid.size} × {grid.size}: reconstruction error against the scale of the "
        f"initialization. Medians and ranges over {grid.seeds} seeds; errors below {LEAST_SHOWN:g} are "
        "drawn there. Those of factorizations cannot fall far below the train loss at which they stop.",
    )


def _draw(axes: Axes, results: SensingResults, measured: int) -> None:
    scales = sorted(results.grid.init_scales)
    errors = {
        depth: [results.of_runs(_ERROR, measured=measured, depth=depth, init_scale=s) for s in scales]
        for depth in results.grid.depths
    }
    draw_errors(axes, scales, errors, np.maximum(results.of_convex(_ERROR, measured), LEAST_SHOWN))
