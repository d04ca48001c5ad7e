"""Matrix sensing in Arora, Cohen, Hu & Luo (NeurIPS 2019): depth senses better than the nuclear norm.

What `figure1` shows of completion, with Gaussian measurements in place of entries.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes

from dmf_fast.experiments.page.figure_style import add_legend, new_figure
from dmf_fast.experiments.page.section import Claim, Picture, ResultTable, Section
from dmf_fast.experiments.recovery.reconstruction import (
    ReconstructionErrors,
    draw_errors,
    error_row,
    reconstruction_claims,
)
from dmf_fast.experiments.recovery.sensing_grid import FULL, QUICK
from dmf_fast.experiments.recovery.sensing_runs import SensingResults, run_sensing_grid
from dmf_fast.experiments.reproduction import Reproduction

_LEAST_SHOWN = 1e-7
_ERROR = "reconstruction_mse"


def run(reproduction: Reproduction) -> Section:
    """Reconstruct matrices from few and from many measurements and compare the errors."""
    results = run_sensing_grid(QUICK if reproduction.quick else FULL, reproduction)
    return Section(
        title="Matrix sensing: reconstruction error against initialization",
        introduction=(
            "A random matrix of low rank is reconstructed from its inner products with random matrices, by "
            "gradient descent on the squared error of a product of 2, 3 or 4 square matrices, and by "
            "nuclear-norm minimization. The error is the mean square over all entries of the matrix; an "
            f"entry is about 1 in size. {_convex_only(results)}"
        ),
        settings=results.grid.settings(),
        claims=claims(results),
        figures=[_picture(results)],
        tables=[ResultTable(_table(results), "Reconstruction error, and steps to the train loss.")],
        work=results.work(),
    )


def claims(results: SensingResults) -> list[Claim]:
    """Decide on what the paper claims, at the smallest initialization."""
    grid = results.grid
    small, large = min(grid.init_scales), max(grid.init_scales)
    with_many = {f"depth {n}": results.of_runs(_ERROR, measured=grid.many, depth=n) for n in grid.depths}
    errors = ReconstructionErrors(
        data="measurements",
        few=grid.few,
        many=grid.many,
        init_scales=(small, large),
        by_depth={n: results.of_runs(_ERROR, measured=grid.few, depth=n) for n in grid.depths},
        from_large_start=results.of_runs(_ERROR, measured=grid.few, depth=2, init_scale=large),
        convex=results.of_convex(grid.few),
        with_many=with_many | {"nuclear norm": results.of_convex(grid.many)},
    )
    source = "Arora et al. 2019, section 2.2 and appendix, on matrix sensing"
    return reconstruction_claims(errors, f"At an initial scale of {small:g}", source)


def _convex_only(results: SensingResults) -> str:
    """Say why the few are as few as they are."""
    grid, sentences = results.grid, []
    for measured in grid.convex_only:
        errors = results.of_convex(measured)
        sentences.append(
            f"With {measured:,} measurements, {measured / grid.degrees_of_freedom:.2f} for each degree of "
            f"freedom, the nuclear norm has a median error of {np.median(errors):.2g}, at most "
            f"{errors.max():.2g}. "
        )
    return "".join(sentences) + f"The few here are {grid.few:,}."


def _table(results: SensingResults) -> pa.Table:
    grid, rows = results.grid, []
    for measured in sorted((*grid.measured, *grid.convex_only)):
        rows.append(error_row("measurements", measured, "nuclear norm", "–", results.of_convex(measured)))
        if measured in grid.measured:
            for depth, scale in product(grid.depths, grid.init_scales):
                labels = {"measured": measured, "depth": depth, "init_scale": scale}
                steps, why = (results.of_runs(name, **labels) for name in ("steps", "stopped_because"))
                rows.append(
                    error_row(
                        "measurements",
                        measured,
                        f"depth {depth}",
                        f"{scale:g}",
                        results.of_runs(_ERROR, **labels),
                    )
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
        f"initialization. Medians and ranges over {grid.seeds} seeds; errors below {_LEAST_SHOWN:g} are "
        "drawn there. Those of factorizations cannot fall far below the train loss at which they stop.",
    )


def _draw(axes: Axes, results: SensingResults, measured: int) -> None:
    scales = sorted(results.grid.init_scales)
    errors = {
        depth: [results.of_runs(_ERROR, measured=measured, depth=depth, init_scale=s) for s in scales]
        for depth in results.grid.depths
    }
    draw_errors(axes, scales, errors, np.maximum(results.of_convex(measured), _LEAST_SHOWN))
