"""Matrix sensing's counterpart of figure 2: nuclear norm and effective rank of what gradient descent finds.

The runs of `sensing`, which are not run again, compared with the matrix of least nuclear norm.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from matplotlib.axes import Axes

from dmf_fast.experiments.page.comparison import PAIRED_RULE, less
from dmf_fast.experiments.page.figure_style import (
    CURVE_STYLES,
    DEPTH_STYLES,
    NUCLEAR_NORM_STYLE,
    add_legend,
    draw_spread,
    new_figure,
)
from dmf_fast.experiments.page.section import Claim, Picture, verdict
from dmf_fast.experiments.recovery.sensing_grid import SensingGrid
from dmf_fast.experiments.recovery.sensing_runs import SensingResults
from dmf_fast.spectrum import effective_rank, nuclear_norm

_MEASURES = {"nuclear_norm": "nuclear norm", "effective_rank": "effective rank"}
_SAME_NORM = 0.01  # relative
_SOURCE = "Arora et al. 2019, on matrix sensing"


def claims(results: SensingResults) -> list[Claim]:
    """Decide on what figure 2 claims of completion, at the smallest initialization."""
    grid = results.grid
    found = {measure: results.of_runs(measure, measured=grid.few, depth=3) for measure in _MEASURES}
    least = {measure: results.of_convex(measure, grid.few) for measure in _MEASURES}
    excess = found["nuclear_norm"] / least["nuclear_norm"] - 1
    norm = less("least nuclear norm", least["nuclear_norm"], "that at depth 3", found["nuclear_norm"])
    rank = less(
        "effective rank at depth 3", found["effective_rank"], "of the least norm", least["effective_rank"]
    )
    misses = {depth: _largest_miss(results, depth) for depth in grid.depths}
    return [
        Claim(
            "With few measurements gradient descent does not minimize the nuclear norm: it gives up some of "
            "it for a lower effective rank.",
            _SOURCE,
            f"With {grid.few:,} measurements at depth 3, from the smallest initialization, the nuclear norm "
            f"is above the least one in every seed, by more than {_SAME_NORM:.0%}, and the effective rank is "
            f"below that of the matrix of least norm, both {PAIRED_RULE}.",
            verdict(norm.holds and rank.holds and float(excess.min()) > _SAME_NORM),
            f"{norm.evidence} (above by {excess.min():.2%} to {excess.max():.2%}); {rank.evidence}",
        ),
        Claim(
            "With many measurements, where nuclear-norm minimization recovers the matrix, gradient descent "
            "finds a matrix of least nuclear norm too.",
            _SOURCE,
            f"With {grid.many:,} measurements, from the smallest initialization, the nuclear norm at every "
            f"depth is within {_SAME_NORM:.0%} of the least one in every seed.",
            verdict(max(misses.values()) < _SAME_NORM),
            "; ".join(f"depth {depth}: at most {miss:.2%} off" for depth, miss in misses.items()),
        ),
    ]


def _largest_miss(results: SensingResults, depth: int) -> float:
    """Return how far nuclear norms are from the least ones, relative to those, in the worst seed."""
    many = results.grid.many
    found = results.of_runs("nuclear_norm", measured=many, depth=depth)
    return float(np.abs(found / results.of_convex("nuclear_norm", many) - 1).max())


def table(results: SensingResults) -> pa.Table:
    """Return the medians over the seeds of every measure, at the smallest initialization."""
    grid, rows = results.grid, []
    truth = _of_truth(grid)
    for measured in grid.measured:
        of_solutions = {
            f"depth {depth}": {m: results.of_runs(m, measured=measured, depth=depth) for m in _MEASURES}
            for depth in grid.depths
        }
        of_solutions["least nuclear norm"] = {m: results.of_convex(m, measured) for m in _MEASURES}
        of_solutions["ground truth"] = truth
        rows += [
            {"measurements": measured, "solution": solution}
            | {title: float(np.median(values[measure])) for measure, title in _MEASURES.items()}
            for solution, values in of_solutions.items()
        ]
    return pa.Table.from_pylist(rows)


def picture(results: SensingResults) -> Picture:
    """Draw every measure against the scale of the initialization."""
    grid = results.grid
    truth = _of_truth(grid)
    figure, panels = new_figure(len(_MEASURES), len(grid.measured), share_x=True)
    for row, measured in zip(panels, grid.measured, strict=True):
        for axes, (measure, title) in zip(row, _MEASURES.items(), strict=True):
            axes.axhline(
                float(np.median(truth[measure])),
                color=CURVE_STYLES[0]["color"],
                linewidth=1.6,
                label="ground truth",
            )
            _draw(axes, results, measured, measure)
            axes.set_ylabel(title)
            axes.set_title(f"{measured:,} measurements")
    for axes in panels[-1]:
        axes.set_xlabel("scale of the initialization")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    add_legend(figure, handles=handles, labels=labels, loc="outside lower center", ncols=3)
    return Picture.of(
        figure,
        f"Rank {grid.rank}, {grid.size} × {grid.size}: nuclear norm and effective rank of what gradient "
        "descent finds, of the matrix of least nuclear norm, and of the ground truth. Medians and ranges "
        f"over {grid.seeds} seeds; of the ground truth the median.",
    )


def _draw(axes: Axes, results: SensingResults, measured: int, measure: str) -> None:
    scales = sorted(results.grid.init_scales)
    for depth in results.grid.depths:
        values = [
            results.of_runs(measure, measured=measured, depth=depth, init_scale=scale) for scale in scales
        ]
        draw_spread(axes, scales, values, DEPTH_STYLES[depth], f"depth {depth}")
    convex = [results.of_convex(measure, measured)] * len(scales)
    draw_spread(axes, scales, convex, NUCLEAR_NORM_STYLE, "least nuclear norm")
    axes.set_xscale("log")


def _of_truth(grid: SensingGrid) -> dict[str, np.ndarray]:
    """Return every measure of the matrices that are sensed, ``(seeds,)``."""
    spectra = [torch.linalg.svdvals(grid.truth(seed).double()) for seed in range(grid.seeds)]
    return {
        "nuclear_norm": np.array([float(nuclear_norm(values)) for values in spectra]),
        "effective_rank": np.array([float(effective_rank(values)) for values in spectra]),
    }
