"""How many measurements recovery needs: a sweep over their number, around the statistical dimension.

For the nuclear norm, theory gives the threshold, see `sensing_dimension`; the question is where the threshold
of depth is. Smaller numbers of measurements are the first of the larger ones.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dmf_fast.experiments.page.papers import OWN
from dmf_fast.experiments.page.section import Claim, verdict
from dmf_fast.experiments.recovery.reconstruction import RECOVERED, error_row
from dmf_fast.experiments.recovery.sensing_runs import SensingResults
from dmf_fast.figure_style import (
    DEPTH_STYLES,
    NUCLEAR_NORM_STYLE,
    SMALL_FONT_SIZE,
    add_legend,
    draw_spread,
    new_figure,
)
from dmf_fast.page.content import Picture

NUCLEAR_NORM = "nuclear norm"
LEAST_SHOWN = 1e-7
_AROUND = (
    0.1  # relative distance from the statistical dimension within which the nuclear norm may do anything
)


def claims(results: SensingResults) -> list[Claim]:
    """Decide where nuclear-norm minimization recovers the matrix, and whether depth 3 needs fewer."""
    grid, errors = results.grid, _errors(results)
    dimension = grid.statistical_dimension
    below = [count for count in grid.measured if count <= (1 - _AROUND) * dimension]
    above = [count for count in grid.measured if count >= (1 + _AROUND) * dimension]
    convex, deep = errors[NUCLEAR_NORM], errors["depth 3"]
    fewer = [count for count in below if _recovered(deep[count]) == 1 and _recovered(convex[count]) == 0]
    return [
        Claim(
            "Nuclear-norm minimization needs about as many Gaussian measurements as the statistical "
            "dimension of the descent cone of the nuclear norm; fewer do not suffice.",
            "Amelunxen, Lotz, McCoy & Tropp 2014; the numbers and the margin are of this project",
            f"The statistical dimension is {dimension:,.0f}. The error is below {RECOVERED:g} in every seed "
            f"at all numbers of measurements that are above it by {_AROUND:.0%} or more ({_listed(above)}), "
            f"and in no seed at those that are below it by {_AROUND:.0%} or more ({_listed(below)}).",
            verdict(
                all(_recovered(convex[count]) == 1 for count in above)
                and all(_recovered(convex[count]) == 0 for count in below)
            ),
            "Recovered: "
            + "; ".join(f"{count:,}: {_recovered(convex[count]):.0%}" for count in sorted(grid.measured))
            + " of the seeds.",
        ),
        Claim(
            "Depth 3 recovers the matrix from fewer measurements than nuclear-norm minimization needs.",
            OWN,
            "At one number of measurements at least that is below the statistical dimension by "
            f"{_AROUND:.0%} or more, the error of depth 3 is below {RECOVERED:g} in every seed, and that of "
            "the matrix of least nuclear norm in none.",
            verdict(bool(fewer)),
            f"It holds at {_listed(fewer)}. All seeds are recovered: "
            + ", ".join(f"by {method} {_where(found)}" for method, found in errors.items())
            + f". The matrix has {grid.degrees_of_freedom:,} degrees of freedom.",
        ),
    ]


def table(results: SensingResults) -> pa.Table:
    """Return the errors of every method from every number of measurements."""
    grid = results.grid
    rows = []
    for count in sorted(grid.measured):
        for method, errors in _errors(results).items():
            scale = "–" if method == NUCLEAR_NORM else f"{min(grid.init_scales):g}"
            rows.append(
                error_row("measurements", count, method, scale, errors[count])
                | {
                    "for each degree of freedom": count / grid.degrees_of_freedom,
                    "over the statistical dimension": count / grid.statistical_dimension,
                    "seeds recovered": int((errors[count] < RECOVERED).sum()),
                }
            )
    return pa.Table.from_pylist(rows)


def picture(results: SensingResults) -> Picture:
    """Draw errors against the number of measurements, with degrees of freedom and statistical dimension."""
    grid, counts = results.grid, sorted(results.grid.measured)
    figure, ((axes,),) = new_figure(1, panel_width=6.5, panel_height=3.8)
    styles = {NUCLEAR_NORM: NUCLEAR_NORM_STYLE} | {f"depth {n}": DEPTH_STYLES[n] for n in grid.depths}
    for method, errors in _errors(results).items():
        shown = [np.maximum(errors[count], LEAST_SHOWN) for count in counts]
        draw_spread(axes, counts, shown, styles[method], method)
    axes.set(yscale="log", xlabel="number of measurements", ylabel="reconstruction error")
    for name, place in (
        ("degrees of freedom", grid.degrees_of_freedom),
        ("statistical dimension", grid.statistical_dimension),
    ):
        axes.axvline(place, color="0.4", linewidth=1.2, linestyle=":")
        axes.annotate(
            f"{name}: {place:,.0f}",
            (place, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="left",
            fontsize=SMALL_FONT_SIZE,
        )
    add_legend(figure, loc="outside lower center", ncols=3)
    return Picture.of(
        figure,
        f"Rank {grid.rank}, {grid.size} × {grid.size}: reconstruction error against the number of "
        f"measurements, from an initial scale of {min(grid.init_scales):g}. Medians and ranges over "
        f"{grid.seeds} seeds; errors below {LEAST_SHOWN:g} are drawn there.",
    )


def _errors(results: SensingResults) -> dict[str, dict[int, np.ndarray]]:
    """Return the errors by method and number of measurements, ``(seeds,)``."""
    counts, name = sorted(results.grid.measured), "reconstruction_mse"
    errors = {NUCLEAR_NORM: {count: results.of_convex(name, count) for count in counts}}
    for depth in results.grid.depths:
        found = {count: results.of_runs(name, measured=count, depth=depth) for count in counts}
        errors[f"depth {depth}"] = found
    return errors


def _recovered(errors: np.ndarray) -> float:
    """Return the fraction of seeds whose matrix is recovered."""
    return float((errors < RECOVERED).mean())


def _where(errors: dict[int, np.ndarray]) -> str:
    """Return a phrase for the number of measurements from which all seeds are recovered."""
    least = None
    for count in sorted(errors, reverse=True):
        if _recovered(errors[count]) < 1:
            break
        least = count
    return "nowhere" if least is None else f"from {least:,} on"


def _listed(counts: list[int]) -> str:
    return ", ".join(f"{count:,}" for count in counts) if counts else "none"
