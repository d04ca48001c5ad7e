"""How wide a chain must be: narrow chains that start in the right directions end like the full width.

Kwon, Zhang, Song, Hua, Shi, Qu, Kim & Choi, "Efficient Compression of Overparameterized Deep Models through
Low-Dimensional Learning Dynamics" (AISTATS 2024); Yaras, Wang, Balzano & Qu, "Compressible Dynamics in Deep
Overparameterized Low-Rank Learning & Adaptation" (ICML 2024).
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure

from dmf_fast.completion.widths import MOST_TAIL_SHARE
from dmf_fast.experiments.page.papers import COMPRESSED, OWN
from dmf_fast.experiments.page.section import Claim, Section, verdict
from dmf_fast.experiments.ratings.movielens_data import NOT_HERE, read_u1
from dmf_fast.experiments.recovery.widths_runs import (
    FULL,
    JOB,
    QUICK,
    WidthResults,
    run_movielens,
    run_widths,
)
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.columns import by_seed
from dmf_fast.figure_style import DEPTH_STYLES, add_legend, draw_spread, new_figure
from dmf_fast.page.content import Picture, ResultTable

_FEW, _SAME, _OTHER = 0.01, 0.02, 0.05
_TIMES_THE_RANK = 4
_PAPERS = "Kwon et al. 2024 and Yaras et al. 2024"
_MEASURES = {
    "distance": "distance to the full width",
    "tail_share": "share of the smaller half",
    "seconds": "seconds on one thread",
}
NOT_QUICK = "left out of quick runs: the full width takes a minute"
_FLOOR = 1e-7  # of distances on a logarithmic axis, where that to itself is 0


def run(reproduction: Reproduction) -> Section:
    """Complete matrices at several widths, and MovieLens at the width found and at the full width."""
    results = run_widths(QUICK if reproduction.quick else FULL, reproduction)
    movielens, tables = None, []
    if reproduction.movielens is not None and not reproduction.quick:
        split = read_u1(reproduction.movielens, JOB.validation_fraction, seed=0)
        movielens = run_movielens(split, reproduction)
        tables = [ResultTable(movielens, "MovieLens, u1, depth 3: the width that is found and the full one.")]
    return Section(
        title="How wide a chain must be",
        paper=COMPRESSED,
        introduction=(
            "From a small start a chain of full width moves in few of its directions. A narrow chain that "
            "begins in these, the leading singular vectors of the observed values, goes the same way at a "
            "fraction of the time. Where it is too narrow, the smaller half of its singular values grows as "
            "well, which is how an automatic width is found. Distances are ‖W − V‖_F / ‖V‖_F to the "
            "product V of full width from the same start. Lines are medians over the seeds, bands ranges."
        ),
        settings=results.grid.settings() | ({} if movielens is None else _settings_of_movielens()),
        claims=[
            *claims(results),
            claim_on_movielens(movielens, NOT_QUICK if reproduction.quick else NOT_HERE),
        ],
        figures=[
            Picture.of(
                _plot(results),
                "Left: distance to the product of full width. Middle: the largest share of the nuclear norm "
                f"in the smaller half of the singular values once half the loss is gone; dotted: "
                f"{MOST_TAIL_SHARE:.0%}, from which on a width counts as too small. Right: time of a "
                "run.",
            )
        ],
        tables=[ResultTable(_table(results), "Medians over the seeds."), *tables],
        work=results.work,
    )


def claims(results: WidthResults) -> list[Claim]:
    """Decide the claims about widths on matrices of low rank."""
    grid = results.grid
    deep = [depth for depth in grid.depths if depth >= 3]
    enough = next(width for width in grid.widths if width >= _TIMES_THE_RANK * grid.rank)
    beyond = {depth: _of(results, "beyond", depth, grid.size) for depth in deep}
    distances = {depth: _of(results, "distance", depth, enough) for depth in deep}
    return [
        Claim(
            "A deep chain of full width ends with hardly anything beyond twice the rank of the matrix.",
            f"{OWN}, after {_PAPERS}",
            f"At every depth from 3 on and for every seed, at the end of the run of full width, the singular "
            f"values beyond the first {2 * grid.rank} have less than {_FEW:.0%} of the nuclear norm.",
            verdict(all(bool((share < _FEW).all()) for share in beyond.values())),
            "; ".join(f"depth {depth}: at most {share.max():.2%}" for depth, share in beyond.items()),
        ),
        Claim(
            f"From a spectral start a deep chain of {_TIMES_THE_RANK} times the rank ends as a wide one.",
            f"{OWN}, after {_PAPERS}",
            f"At every depth from 3 on and for every seed the product of the chain of width {enough} is "
            f"within {_SAME:.0%} of that of full width.",
            verdict(all(bool((one < _SAME).all()) for one in distances.values())),
            "; ".join(f"depth {depth}: at most {one.max():.2%}" for depth, one in distances.items()),
        ),
        _binding_width_shows(results),
    ]


def _binding_width_shows(results: WidthResults) -> Claim:
    narrow = results.runs.filter(pc.field("width") < results.grid.size)
    distances, shares = (np.asarray(narrow[name]) for name in ("distance", "tail_share"))
    passes = shares <= MOST_TAIL_SHARE
    wrong = int((passes & ~(distances <= _OTHER)).sum())
    farthest = f"{distances[passes].max():.1%}" if passes.any() else "none"
    return Claim(
        "Where a chain is too narrow, its own singular values show it.",
        OWN,
        f"Over all depths, widths below the full one and seeds: of the runs in which the smaller half of the "
        f"singular values stays at or below {MOST_TAIL_SHARE:.0%} of the nuclear norm, once half the "
        f"loss is gone, none ends farther than {_OTHER:.0%} from the full width; and there are such runs.",
        verdict(bool(passes.any()) and not wrong),
        f"{int(passes.sum())} of {len(passes)} runs pass, the farthest {farthest} away; of the others "
        f"{int((~passes & ~(distances <= _OTHER)).sum())} are farther than {_OTHER:.0%}.",
    )


def claim_on_movielens(movielens: pa.Table | None, why_not: str = NOT_HERE) -> Claim:
    """Decide whether the width found on MovieLens ends like the full width."""
    statement = "On MovieLens the width that is found ends as the full width does."
    rule = (
        f"At the best validation errors the product of the chain of the width found is within {_OTHER:.0%} "
        "of that of full width, and its validation error within 0.5%."
    )
    if movielens is None:
        return Claim(statement, OWN, rule, "not tested", why_not)
    found, full = movielens.to_pylist()
    difference = abs(found["validation_rmse"] / full["validation_rmse"] - 1)
    return Claim(
        statement,
        OWN,
        rule,
        verdict(found["distance"] < _OTHER and difference < 0.005),
        f"Width {found['width']} in place of {full['width']}: {found['distance']:.2%} away, validation "
        f"errors {found['validation_rmse']:.4f} and {full['validation_rmse']:.4f}, {found['seconds']:.1f} s "
        f"and {full['seconds']:.1f} s.",
    )


def _of(results: WidthResults, measure: str, depth: int, width: int) -> np.ndarray:
    return by_seed(results.runs, measure, depth=depth, width=width)


def _settings_of_movielens() -> dict[str, str]:
    return {
        "MovieLens": f"u1.base less its mean, GroupRMSprop, learning rate {JOB.lr:g}, initial scale "
        f"{JOB.init_scale:g}, to the least validation error"
    }


def _table(results: WidthResults) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for depth, width in product(results.grid.depths, results.grid.widths):
        names = ("reconstruction_mse", "distance", "tail_share", "steps", "seconds")
        row = {name: float(np.median(_of(results, name, depth, width))) for name in names}
        rows.append({"start": "spectral", "depth": depth, "width": width} | row)
    for depth in results.grid.depths:
        error = float(np.median(_of(results, "gaussian_mse", depth, results.grid.size)))
        rows.append({"start": "Gaussian", "depth": depth, "width": results.grid.size})
        rows[-1]["reconstruction_mse"] = error
    return pa.Table.from_pylist(rows)


def _plot(results: WidthResults) -> Figure:
    grid = results.grid
    figure, panels = new_figure(len(_MEASURES), panel_width=3.6)
    for axes, (measure, title) in zip(panels[0], _MEASURES.items(), strict=True):
        widths = grid.widths if measure == "seconds" else grid.widths[:-1]
        for depth in grid.depths:
            values = [np.maximum(_of(results, measure, depth, width), _FLOOR) for width in widths]
            draw_spread(axes, widths, values, DEPTH_STYLES[depth], f"depth {depth}")
        axes.set(xscale="log", yscale="log", xlabel="width", ylabel=title)
        axes.set_xticks(widths, [str(width) for width in widths], minor=False)
        axes.set_xticks([], minor=True)
    panels[0, 1].axhline(MOST_TAIL_SHARE, color="black", linestyle=":", linewidth=1)
    add_legend(panels[0, 0])
    return figure
