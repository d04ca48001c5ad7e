"""Depth completes a matrix better than the nuclear norm: Arora, Cohen, Hu & Luo (NeurIPS 2019).

Reconstruction error against the scale of the initialization, for depths 2, 3 and 4, and for nuclear-norm
minimization, with few and with many observed entries. Every statement is decided at each scale and learning
rate. `entries` covers other numbers of entries and rank 10.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product

import pyarrow as pa
from matplotlib.axes import Axes

from dmf_fast.experiments.page.papers import ARORA
from dmf_fast.experiments.page.section import Claim, Section
from dmf_fast.experiments.recovery.completion_grid import FULL, QUICK, GridResults, run_grid
from dmf_fast.experiments.recovery.reconstruction import (
    RECOVERED,
    ReconstructionErrors,
    decided_at,
    draw_errors,
    error_row,
    reconstruction_claims,
)
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.figure_style import add_legend, new_figure
from dmf_fast.page.content import Picture, ResultTable

_ERROR = "reconstruction_mse"
_SOURCE = "Arora et al. 2019; errors by scale as in the authors' public code"


def run(reproduction: Reproduction) -> Section:
    """Complete matrices of rank 5 and compare the errors."""
    results = run_grid(QUICK if reproduction.quick else FULL, reproduction)
    return Section(
        title="Matrix completion: reconstruction error against initialization",
        introduction=(
            "A random matrix of low rank is completed from some of its entries, by gradient descent on the "
            "squared error of a product of 2, 3 or 4 square matrices, and by nuclear-norm minimization. The "
            "error is the mean square over all entries of the matrix; an entry is about 1 in size. Lines are "
            "medians over the seeds, bands show the range."
        ),
        settings=results.grid.settings(),
        claims=claims(results),
        figures=[_picture(results)],
        tables=[
            ResultTable(_table(results), f"Reconstruction error, rank {results.grid.rank}."),
            ResultTable(_where(results), "The same statements, decided at every scale and learning rate."),
        ],
        work=results.work,
        paper=ARORA,
    )


def claims(results: GridResults) -> list[Claim]:
    """Decide the paper's claims at the smallest initialization and learning rate.

    The evidence says where else they hold, and which runs of depth 3 or more recover nothing.
    """
    grid = results.grid
    by_place = {_place(scale, lr): found for (scale, lr), found in _everywhere(results).items()}
    decided = _place(min(grid.init_scales), min(grid.learning_rates))
    deeper, *others = decided_at(decided, by_place, "pairs of scale and learning rate")
    return [replace(deeper, evidence=f"{deeper.evidence} {_failures(results)}"), *others]


def _place(scale: float, lr: float) -> str:
    return f"scale {scale:g} with rate {lr:g}"


def _everywhere(results: GridResults) -> dict[tuple[float, float], list[Claim]]:
    """Return the claims by scale and learning rate."""
    grid = results.grid
    return {
        (scale, lr): _claims_at(results, scale, lr)
        for lr, scale in product(sorted(grid.learning_rates), sorted(grid.init_scales))
    }


def _claims_at(results: GridResults, scale: float, lr: float) -> list[Claim]:
    grid = results.grid
    errors = ReconstructionErrors.at(
        scale,
        "observed entries",
        (grid.few, grid.many),
        grid.depths,
        grid.init_scales,
        lambda observed, depth, start: results.of_runs(
            _ERROR, observed=observed, depth=depth, init_scale=start, lr=lr
        ),
        partial(results.of_convex, _ERROR),
    )
    at = f"At an initial scale of {scale:g} and a learning rate of {lr:g}"
    return reconstruction_claims(errors, at, _SOURCE)


def _failures(results: GridResults) -> str:
    """Return a sentence on how many runs of depth 3 or more do not recover the matrix from few entries."""
    grid, failed = results.grid, []
    for depth, lr, scale in product(grid.depths, sorted(grid.learning_rates), sorted(grid.init_scales)):
        errors = results.of_runs(_ERROR, observed=grid.few, depth=depth, init_scale=scale, lr=lr)
        count = int((errors >= RECOVERED).sum())
        if depth >= 3 and count:
            failed.append(f"depth {depth} at scale {scale:g} and rate {lr:g}: {count} of {len(errors)} seeds")
    found = f"An error of {RECOVERED:g} or more from depth 3 on"
    return f"{found}: {'; '.join(failed)}." if failed else f"{found}: in no run."


def _where(results: GridResults) -> pa.Table:
    rows = [
        {
            "statement": claim.statement,
            "learning rate": f"{lr:g}",
            "initial scale": f"{scale:g}",
            "verdict": claim.verdict,
            "evidence": claim.evidence,
        }
        for (scale, lr), claims in _everywhere(results).items()
        for claim in claims
    ]
    return pa.Table.from_pylist(sorted(rows, key=lambda row: row["statement"]))


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
