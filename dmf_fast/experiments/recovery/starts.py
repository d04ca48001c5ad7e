"""Whether depth helps for every start and every optimizer.

Depths 2 and 3 with few observed entries, from every start of `INITIALIZATIONS`, with GroupRMSprop, Adam and
plain gradient descent.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes

from dmf_fast.experiments.page.comparison import PAIRED_RULE, less
from dmf_fast.experiments.page.papers import ARORA, OWN
from dmf_fast.experiments.page.section import Claim, Section, verdict
from dmf_fast.experiments.recovery.completion_grid import GridResults
from dmf_fast.experiments.recovery.reconstruction import RECOVERED, error_summary
from dmf_fast.experiments.recovery.starts_runs import (
    ADAM_RATES,
    FEW,
    OPTIMIZERS,
    PAIRS,
    QUICK_FEW,
    SGD_RATES,
    STARTS,
    of_pair,
    run_starts,
)
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.figure_style import (
    DEPTH_STYLES,
    NUCLEAR_NORM_STYLE,
    add_legend,
    new_figure,
)
from dmf_fast.page.content import Picture, ResultTable

_SOURCE = f"{OWN}; the paper shows Gaussian starts"
_AS_CLOSE = 2.0


def run(reproduction: Reproduction) -> Section:
    """Complete the same matrices from all starts and with all optimizers, and compare the errors."""
    results = run_starts(QUICK_FEW if reproduction.quick else FEW, reproduction)
    return Section(
        title="Matrix completion: other starts and other optimizers",
        introduction=(
            "Does the advantage of depth depend on Gaussian starts or on the optimizer? The public code of "
            "Arora et al. offers uniform, identity and orthogonal starts, too, and Adam and plain gradient "
            "descent; balanced starts are those of the theory. A point is the reconstruction error of one "
            "run; the gray band is the range of the matrices of least nuclear norm over the same seeds."
        ),
        settings=_settings(results),
        claims=claims(results),
        figures=[_picture(results)],
        tables=[
            ResultTable(
                _table(results), f"Reconstruction error, and in how many seeds it is below {RECOVERED:g}."
            )
        ],
        work=results.work,
        paper=ARORA,
    )


def claims(results: GridResults) -> list[Claim]:
    """Decide the claims about starts, then those about optimizers."""
    starts = {start: (start, "GroupRMSprop") for start in STARTS}
    optimizers = {optimizer: ("gaussian", optimizer) for optimizer in OPTIMIZERS}
    return [
        _depth_helps(results, starts, "every start"),
        _recovers(results, starts),
        _depth_helps(results, optimizers, "every optimizer"),
        _same_as_gradient_descent(results),
        _adam(results),
    ]


def _depth_helps(results: GridResults, pairs: dict[str, tuple[str, str]], what: str) -> Claim:
    compared = [
        less(f"{name}, depth 3", of_pair(results, *pair, 3), "depth 2", of_pair(results, *pair, 2))
        for name, pair in pairs.items()
    ]
    return Claim(
        f"With {what} depth 3 completes the matrix better than depth 2.",
        _SOURCE,
        f"With each of {', '.join(pairs)} the error of depth 3 is below that of depth 2, {PAIRED_RULE}.",
        verdict(all(comparison.holds for comparison in compared)),
        "; ".join(comparison.evidence for comparison in compared),
    )


def _recovers(results: GridResults, pairs: dict[str, tuple[str, str]]) -> Claim:
    errors = {name: of_pair(results, *pair, 3) for name, pair in pairs.items()}
    return Claim(
        "From every start depth 3 recovers the matrix.",
        _SOURCE,
        f"With each start the error of depth 3 is below {RECOVERED:g} in every seed.",
        verdict(all(bool((found < RECOVERED).all()) for found in errors.values())),
        "Largest errors: " + "; ".join(f"{name} {found.max():.2g}" for name, found in errors.items()),
    )


def _same_as_gradient_descent(results: GridResults) -> Claim:
    ratios = {
        depth: of_pair(results, "gaussian", "SGD", depth)
        / of_pair(results, "gaussian", "GroupRMSprop", depth)
        for depth in results.grid.depths
    }
    return Claim(
        "Plain gradient descent ends with about the error of GroupRMSprop, whose steps are along the "
        "gradient as well.",
        _SOURCE,
        f"In every seed and at both depths their errors differ by less than a factor of {_AS_CLOSE:g}.",
        verdict(all(bool((np.abs(np.log(ratio)) < np.log(_AS_CLOSE)).all()) for ratio in ratios.values())),
        "Error of gradient descent over that of GroupRMSprop: "
        + "; ".join(
            f"depth {depth} {ratio.min():.2f} to {ratio.max():.2f}" for depth, ratio in ratios.items()
        ),
    )


def _adam(results: GridResults) -> Claim:
    compared = [
        less(
            f"depth {depth}: GroupRMSprop",
            of_pair(results, "gaussian", "GroupRMSprop", depth),
            adam,
            of_pair(results, "gaussian", adam, depth),
        )
        for depth, adam in product(results.grid.depths, ADAM_RATES)
    ]
    return Claim(
        "Adam, which scales every entry of the gradient on its own, completes the matrix less well.",
        _SOURCE,
        "At both depths the error of GroupRMSprop is below that of Adam, with both of its learning rates, "
        f"{PAIRED_RULE}.",
        verdict(all(comparison.holds for comparison in compared)),
        "; ".join(comparison.evidence for comparison in compared),
    )


def _settings(results: GridResults) -> dict[str, str]:
    grid = results.grid
    (lr,) = grid.learning_rates
    rates = ", ".join(f"{rate:g} at depth {depth}" for depth, rate in SGD_RATES.items())
    adam = " and ".join(f"{rate:g}" for rate in ADAM_RATES.values())
    return grid.settings() | {
        "initialization": f"{', '.join(STARTS)}, scale {grid.init_scales[0]:g}",
        "rule": f"GroupRMSprop, learning rate {lr:g}; from Gaussian starts also Adam, {adam}, and "
        f"gradient descent (SGD on all entries), {rates}; all on the sum of the squared errors",
    }


def _table(results: GridResults) -> pa.Table:
    rows = []
    for start, optimizer in PAIRS:
        for depth in results.grid.depths:
            errors = of_pair(results, start, optimizer, depth)
            steps = of_pair(results, start, optimizer, depth, "step")
            rows.append(
                {"start": start, "optimizer": optimizer, "depth": str(depth)}
                | _spread(errors)
                | {"median steps": int(np.median(steps))}
            )
    convex = results.of_convex("reconstruction_mse", results.grid.few)
    return pa.Table.from_pylist(
        [*rows, {"start": "–", "optimizer": "nuclear norm", "depth": "–"} | _spread(convex)]
    )


def _spread(errors: np.ndarray) -> dict[str, int | float]:
    return error_summary(errors) | {"seeds recovered": int((errors < RECOVERED).sum())}


def _picture(results: GridResults) -> Picture:
    figure, panels = new_figure(2, panel_width=4.4, panel_height=3.6, share_y=True)
    starts, optimizers = panels[0]
    _draw(starts, results, [(start, "GroupRMSprop") for start in STARTS], STARTS)
    _draw(optimizers, results, [("gaussian", optimizer) for optimizer in OPTIMIZERS], OPTIMIZERS)
    starts.set_title("starts, with GroupRMSprop")
    optimizers.set_title("optimizers, from Gaussian starts")
    starts.set_ylabel("reconstruction error")
    handles, labels = starts.get_legend_handles_labels()
    add_legend(figure, handles=handles, labels=labels, loc="outside lower center", ncols=len(labels))
    grid = results.grid
    return Picture.of(
        figure,
        f"Rank {grid.rank}, {grid.size} × {grid.size}, {grid.few:,} observed entries: reconstruction errors "
        f"of {grid.seeds} seeds, side by side.",
    )


def _draw(axes: Axes, results: GridResults, pairs: Sequence[tuple[str, str]], names: Sequence[str]) -> None:
    convex = results.of_convex("reconstruction_mse", results.grid.few)
    axes.axhspan(convex.min(), convex.max(), color="0.5", alpha=0.25, linewidth=0)
    axes.axhline(
        float(np.median(convex)),
        color=NUCLEAR_NORM_STYLE["color"],
        linestyle=NUCLEAR_NORM_STYLE["linestyle"],
        linewidth=1.2,
        label="nuclear norm",
    )
    for depth in results.grid.depths:
        style = DEPTH_STYLES[depth]
        errors = [of_pair(results, *pair, depth) for pair in pairs]
        spread = np.linspace(-0.2, 0.2, results.grid.seeds)
        x = np.concatenate([place + spread for place in range(len(pairs))])
        axes.plot(
            x,
            np.concatenate(errors),
            color=style["color"],
            marker=style["marker"],
            linestyle="none",
            markersize=4.5,
            label=f"depth {depth}",
        )
    axes.set(yscale="log", xticks=range(len(names)), xticklabels=names, xlim=(-0.5, len(names) - 0.5))
