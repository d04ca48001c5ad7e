"""Figure 2 of Arora, Cohen, Hu & Luo (NeurIPS 2019): what depth favors is not a small nuclear norm.

Nuclear norm, effective rank and reconstruction error of what gradient descent finds, compared with those of
the matrix of least nuclear norm, with few and with many observed entries.
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
from dmf_fast.experiments.page.papers import ARORA
from dmf_fast.experiments.page.section import Claim, Picture, ResultTable, Section, verdict
from dmf_fast.experiments.recovery.completion_grid import FULL, QUICK, CompletionGrid, GridResults, run_grid
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.spectrum import effective_rank

_MEASURES = {
    "nuclear_norm": "nuclear norm",
    "effective_rank": "effective rank",
    "reconstruction_mse": "reconstruction error",
}
_SAME_NORM = 0.01  # relative
_SOURCE = "Arora et al. 2019, figure 2"


def run(reproduction: Reproduction) -> Section:
    """Compare the spectra of the solutions of the runs of `scales`, which are not run again."""
    grid = QUICK if reproduction.quick else FULL
    results = run_grid(grid, reproduction)
    return Section(
        title="Not a norm: the spectrum of what gradient descent finds",
        introduction=(
            "The runs of the figure before, looked at by their nuclear norm and by their effective rank, the "
            "exponential of the entropy of the normalized singular values. Where many entries are observed, "
            "all solutions agree; where few are, the question is whether depth prefers a lower rank over a "
            "smaller nuclear norm. Lines are medians over the seeds, bands their ranges."
        ),
        settings=grid.settings() | {"learning rate shown": f"{min(grid.learning_rates):g}"},
        claims=claims(results),
        figures=[_picture(results)],
        tables=[ResultTable(_table(results), "Medians over the seeds at the smallest initialization.")],
        paper=ARORA,
    )


def claims(results: GridResults) -> list[Claim]:
    """Decide on what figure 2 claims, at the smallest initialization and learning rate."""
    grid = results.grid
    found = {measure: results.of_runs(measure, observed=grid.few, depth=3) for measure in _MEASURES}
    least = {measure: results.of_convex(measure, grid.few) for measure in _MEASURES}
    excess = found["nuclear_norm"] / least["nuclear_norm"] - 1
    norm = less("least nuclear norm", least["nuclear_norm"], "that at depth 3", found["nuclear_norm"])
    rank, error = (
        less(f"{_MEASURES[measure]} at depth 3", found[measure], "of the least norm", least[measure])
        for measure in ("effective_rank", "reconstruction_mse")
    )
    misses = {depth: _largest_miss(results, grid.many, depth) for depth in grid.depths}
    return [
        Claim(
            "With few observed entries gradient descent does not minimize the nuclear norm: it gives up some "
            "of it for a lower effective rank.",
            _SOURCE,
            f"With {grid.few:,} entries at depth 3 the nuclear norm is above the least one in every seed, by "
            f"more than {_SAME_NORM:.0%}, and the effective rank is below that of the matrix of least norm, "
            f"both {PAIRED_RULE}.",
            verdict(norm.holds and rank.holds and float(excess.min()) > _SAME_NORM),
            f"{norm.evidence} (above by {excess.min():.1%} to {excess.max():.1%}); {rank.evidence}",
        ),
        Claim(
            "The lower rank is the better answer.",
            _SOURCE,
            f"With {grid.few:,} entries the reconstruction error at depth 3 is below that of the matrix of "
            f"least nuclear norm, {PAIRED_RULE}.",
            verdict(error.holds),
            error.evidence,
        ),
        Claim(
            "With many observed entries, where nuclear-norm minimization recovers the matrix, gradient "
            "descent finds a matrix of least nuclear norm too.",
            _SOURCE,
            f"With {grid.many:,} entries the nuclear norm at every depth is within {_SAME_NORM:.0%} of the "
            "least one in every seed.",
            verdict(max(misses.values()) < _SAME_NORM),
            "; ".join(f"depth {depth}: at most {miss:.2%} off" for depth, miss in misses.items()),
        ),
    ]


def _largest_miss(results: GridResults, observed: int, depth: int) -> float:
    """Return how far nuclear norms are from the least ones, relative to those, in the worst seed."""
    found = results.of_runs("nuclear_norm", observed=observed, depth=depth)
    return float(np.abs(found / results.of_convex("nuclear_norm", observed) - 1).max())


def _table(results: GridResults) -> pa.Table:
    rows = []
    for observed in results.grid.observed:
        for depth in results.grid.depths:
            medians = {
                title: float(np.median(results.of_runs(measure, observed=observed, depth=depth)))
                for measure, title in _MEASURES.items()
            }
            rows.append({"observed": observed, "solution": f"depth {depth}"} | medians)
        medians = {
            title: float(np.median(results.of_convex(measure, observed)))
            for measure, title in _MEASURES.items()
        }
        rows.append({"observed": observed, "solution": "least nuclear norm"} | medians)
        truth = {_MEASURES[measure]: value for measure, value in _of_truth(results.grid).items()}
        rows.append({"observed": observed, "solution": "ground truth"} | truth)
    return pa.Table.from_pylist(rows)


def _picture(results: GridResults) -> Picture:
    grid = results.grid
    figure, panels = new_figure(len(_MEASURES), len(grid.observed), share_x=True, panel_width=3.6)
    for row, observed in zip(panels, grid.observed, strict=True):
        for axes, (measure, title) in zip(row, _MEASURES.items(), strict=True):
            _draw(axes, results, observed, measure)
            axes.set_ylabel(title)
            axes.set_title(f"{observed:,} observed entries")
    for axes in panels[-1]:
        axes.set_xlabel("scale of the initialization")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    add_legend(figure, handles=handles, labels=labels, loc="outside lower center", ncols=len(labels))
    return Picture.of(
        figure,
        f"Rank {grid.rank}, {grid.size} × {grid.size}: nuclear norm, effective rank and reconstruction error "
        "of gradient descent and of the matrix of least nuclear norm. Medians and ranges over "
        f"{grid.seeds} seeds.",
    )


def _of_truth(grid: CompletionGrid) -> dict[str, float]:
    """Return the medians over the seeds of every measure of the ground truth, which has no error."""
    spectra = [torch.linalg.svdvals(grid.problem(grid.few, seed).truth) for seed in range(grid.seeds)]
    measured = {
        "nuclear_norm": [float(values.sum()) for values in spectra],
        "effective_rank": [float(effective_rank(values)) for values in spectra],
    }
    return {name: float(np.median(values)) for name, values in measured.items()} | {"reconstruction_mse": 0.0}


def _draw(axes: Axes, results: GridResults, observed: int, measure: str) -> None:
    scales = sorted(results.grid.init_scales)
    if measure != "reconstruction_mse":
        axes.axhline(
            _of_truth(results.grid)[measure],
            color=CURVE_STYLES[0]["color"],
            linewidth=1.6,
            label="ground truth",
        )
    for depth in results.grid.depths:
        values = [
            results.of_runs(measure, observed=observed, depth=depth, init_scale=scale) for scale in scales
        ]
        draw_spread(axes, scales, values, DEPTH_STYLES[depth], f"depth {depth}")
    convex = [results.of_convex(measure, observed)] * len(scales)
    draw_spread(axes, scales, convex, NUCLEAR_NORM_STYLE, "least nuclear norm")
    axes.set(xscale="log", yscale="log" if measure == "reconstruction_mse" else "linear")
