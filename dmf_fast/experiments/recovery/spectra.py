"""Nuclear norm and effective rank of the solutions of gradient descent, for completion and for sensing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from matplotlib.axes import Axes
from torch import Tensor

from dmf_fast.experiments.page.comparison import PAIRED_RULE, less
from dmf_fast.experiments.page.section import Claim, verdict
from dmf_fast.figure_style import (
    CURVE_STYLES,
    DEPTH_STYLES,
    NUCLEAR_NORM_STYLE,
    add_legend,
    draw_spread,
    new_figure,
)
from dmf_fast.page.content import Picture
from dmf_fast.spectrum import effective_rank, nuclear_norm

_TITLES = {
    "nuclear_norm": "nuclear norm",
    "effective_rank": "effective rank",
    "reconstruction_mse": "reconstruction error",
}
_SAME_NORM = 0.01  # relative


@dataclass(frozen=True)
class FoundSpectra:
    """Measures of solutions from several numbers of data, and of what they are compared with.

    Attributes:
        data: what the matrix is reconstructed from, such as ``"observed entries"``.
        counts: numbers of them, in ascending order.
        depths, init_scales: of the factorizations.
        measures: ``"nuclear_norm"``, ``"effective_rank"`` and, if it should be shown,
            ``"reconstruction_mse"``.
        of_runs: of a measure, a number of data, a depth and a scale, ``(seeds,)``.
        of_convex: of a measure and a number of data, of the matrix of least nuclear norm, ``(seeds,)``.
        truths: the ground truth of every seed.

    """

    data: str
    counts: tuple[int, int]
    depths: Sequence[int]
    init_scales: Sequence[float]
    measures: Sequence[str]
    of_runs: Callable[[str, int, int, float], np.ndarray]
    of_convex: Callable[[str, int], np.ndarray]
    truths: Sequence[Tensor]

    def at_smallest(self, measure: str, count: int, depth: int) -> np.ndarray:
        """Return a measure from the smallest initialization, ``(seeds,)``."""
        return self.of_runs(measure, count, depth, min(self.init_scales))

    def of_truth(self) -> Mapping[str, float]:
        """Return the median over the seeds of every measure of the ground truth."""
        values = [torch.linalg.svdvals(truth.double()) for truth in self.truths]
        norms, ranks = ([float(of(one)) for one in values] for of in (nuclear_norm, effective_rank))
        return {
            "nuclear_norm": float(np.median(norms)),
            "effective_rank": float(np.median(ranks)),
            "reconstruction_mse": 0.0,
        }


def claims(spectra: FoundSpectra, source: str) -> list[Claim]:
    """Decide whether few data lead to a lower rank, not a smaller norm, and many to the minimum norm."""
    claims = [_gives_up_norm(spectra, source)]
    if "reconstruction_mse" in spectra.measures:
        claims.append(_errs_less(spectra, source))
    return [*claims, _finds_least_norm(spectra, source)]


def _gives_up_norm(spectra: FoundSpectra, source: str) -> Claim:
    few = spectra.counts[0]
    measures = ("nuclear_norm", "effective_rank")
    norms, ranks = (spectra.at_smallest(measure, few, 3) for measure in measures)
    least_norms, ranks_there = (spectra.of_convex(measure, few) for measure in measures)
    excess = norms / least_norms - 1
    norm = less("least nuclear norm", least_norms, "that at depth 3", norms)
    rank = less("effective rank at depth 3", ranks, "of the least norm", ranks_there)
    return Claim(
        f"With few {spectra.data} gradient descent does not minimize the nuclear norm: it gives up some of "
        "it for a lower effective rank.",
        source,
        f"With {few:,} {spectra.data} at depth 3, from the smallest initialization, the nuclear norm is "
        f"above the least one in every seed, by more than {_SAME_NORM:.0%}, and the effective rank is below "
        f"that of the matrix of least norm, both {PAIRED_RULE}.",
        verdict(norm.holds and rank.holds and float(excess.min()) > _SAME_NORM),
        f"{norm.evidence} (above by {excess.min():.2%} to {excess.max():.2%}); {rank.evidence}",
    )


def _errs_less(spectra: FoundSpectra, source: str) -> Claim:
    few, measure = spectra.counts[0], "reconstruction_mse"
    error = less(
        "reconstruction error at depth 3",
        spectra.at_smallest(measure, few, 3),
        "of the least norm",
        spectra.of_convex(measure, few),
    )
    return Claim(
        f"With few {spectra.data} the lower rank is the better answer.",
        source,
        f"With {few:,} {spectra.data} the reconstruction error at depth 3, from the smallest initialization, "
        f"is below that of the matrix of least nuclear norm, {PAIRED_RULE}.",
        verdict(error.holds),
        error.evidence,
    )


def _finds_least_norm(spectra: FoundSpectra, source: str) -> Claim:
    many, measure = spectra.counts[1], "nuclear_norm"
    least = spectra.of_convex(measure, many)
    misses = {
        depth: float(np.abs(spectra.at_smallest(measure, many, depth) / least - 1).max())
        for depth in spectra.depths
    }
    return Claim(
        f"With many {spectra.data}, where nuclear-norm minimization recovers the matrix, gradient descent "
        "finds a matrix of least nuclear norm too.",
        source,
        f"With {many:,} {spectra.data}, from the smallest initialization, the nuclear norm at every depth is "
        f"within {_SAME_NORM:.0%} of the least one in every seed.",
        verdict(all(miss < _SAME_NORM for miss in misses.values())),
        "; ".join(f"depth {depth}: at most {miss:.2%} off" for depth, miss in misses.items()),
    )


def table(spectra: FoundSpectra) -> pa.Table:
    """Return the medians over the seeds of every measure, at the smallest initialization."""
    truth, rows = spectra.of_truth(), []
    for count in spectra.counts:
        solutions = {
            f"depth {depth}": {m: spectra.at_smallest(m, count, depth) for m in spectra.measures}
            for depth in spectra.depths
        }
        solutions["least nuclear norm"] = {m: spectra.of_convex(m, count) for m in spectra.measures}
        solutions["ground truth"] = {m: np.array([truth[m]]) for m in spectra.measures}
        rows += [
            {spectra.data: count, "solution": name}
            | {_TITLES[measure]: float(np.median(values)) for measure, values in found.items()}
            for name, found in solutions.items()
        ]
    return pa.Table.from_pylist(rows)


def picture(spectra: FoundSpectra, what: str) -> Picture:
    """Draw every measure against the scale of the initialization; ``what`` begins the caption."""
    figure, panels = new_figure(len(spectra.measures), len(spectra.counts), share_x=True, panel_width=3.6)
    truth = spectra.of_truth()
    for row, count in zip(panels, spectra.counts, strict=True):
        for axes, measure in zip(row, spectra.measures, strict=True):
            if truth[measure]:  # a logarithmic axis cannot show an error of zero
                color = CURVE_STYLES[0]["color"]
                axes.axhline(truth[measure], color=color, linewidth=1.6, label="ground truth")
            _draw(axes, spectra, count, measure)
            axes.set(ylabel=_TITLES[measure], title=f"{count:,} {spectra.data}")
    for axes in panels[-1]:
        axes.set_xlabel("scale of the initialization")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    add_legend(figure, handles=handles, labels=labels, loc="outside lower center", ncols=3)
    return Picture.of(
        figure,
        f"{what}: {', '.join(_TITLES[measure] for measure in spectra.measures)} of what gradient descent "
        "finds, of the matrix of least nuclear norm, and of the ground truth. Medians and ranges over the "
        "seeds; of the ground truth the median.",
    )


def _draw(axes: Axes, spectra: FoundSpectra, count: int, measure: str) -> None:
    scales = sorted(spectra.init_scales)
    for depth in spectra.depths:
        values = [spectra.of_runs(measure, count, depth, scale) for scale in scales]
        draw_spread(axes, scales, values, DEPTH_STYLES[depth], f"depth {depth}")
    convex = [spectra.of_convex(measure, count)] * len(scales)
    draw_spread(axes, scales, convex, NUCLEAR_NORM_STYLE, "least nuclear norm")
    axes.set(xscale="log", yscale="log" if measure == "reconstruction_mse" else "linear")
