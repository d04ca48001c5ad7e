"""A photograph with missing pixels: what low rank and depth can restore, and what they cannot."""

from __future__ import annotations

from itertools import product

import numpy as np
import pyarrow as pa
from matplotlib import colormaps
from matplotlib.figure import Figure

from dmf_fast.experiments.page.papers import PICTURES
from dmf_fast.experiments.page.section import Section
from dmf_fast.experiments.recovery.images_claims import NO_SCIKIT_IMAGE, claims, psnr
from dmf_fast.experiments.recovery.images_data import Image
from dmf_fast.experiments.recovery.images_runs import (
    BIHARMONIC,
    FULL,
    NUCLEAR_NORM,
    QUICK,
    ImagesResults,
    run_images,
)
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.figure_style import (
    CURVE_STYLES,
    DEPTH_STYLES,
    NUCLEAR_NORM_STYLE,
    SMALL_FONT_SIZE,
    add_legend,
    draw_spread,
    new_figure,
)
from dmf_fast.page.content import Picture, ResultTable

_STYLES = {f"depth {depth}": style for depth, style in DEPTH_STYLES.items()} | {
    NUCLEAR_NORM: NUCLEAR_NORM_STYLE,
    BIHARMONIC: CURVE_STYLES[4],
}
_GRAYS = colormaps["gray"].resampled(64)  # a third fewer bytes on the page than with 256

INTRODUCTION = (
    "Pixels of a photograph are dropped at random, and the rest is completed as a matrix: by deep "
    "factorization, stopped where held-out pixels are predicted best, and by nuclear-norm minimization. "
    "Biharmonic inpainting, which asks for smoothness and knows nothing of rank, is compared with them. A "
    "photograph is no matrix of low rank: this shows where the assumption of the other experiments ends. "
    "The peak signal-to-noise ratio (PSNR, higher is better) is that of the missing pixels."
)


def run(reproduction: Reproduction) -> Section:
    """Complete the portrait at every share of missing pixels; raise `KeyboardInterrupt` after Ctrl-C."""
    results = run_images(QUICK if reproduction.quick else FULL, reproduction)
    return Section(
        title="Images: where low rank is not enough",
        introduction=INTRODUCTION,
        settings=_settings(results),
        claims=claims(results),
        figures=[_curves(results), *(_pictures(results, missing) for missing in results.grid.missing)],
        tables=[ResultTable(_table(results), "Missing pixels: medians, least and largest over the seeds.")],
        work=results.work,
        paper=PICTURES,
    )


def _settings(results: ImagesResults) -> dict[str, str]:
    grid = results.grid
    rows, columns = results.problems[grid.missing[0], 0].image.shape
    has_biharmonic = BIHARMONIC in results.methods
    return {
        "image": "official portrait of Grace Hopper by the US Navy, in the public domain, from Matplotlib's "
        f"sample data; gray, means of {grid.block} × {grid.block} pixels: {rows} × {columns}",
        "missing": ", ".join(f"{share:.0%}" for share in grid.missing) + ", drawn uniformly",
        "seeds": f"{grid.seeds}, each with its own missing pixels and starts",
        "units of the fit": "standard deviations of the observed pixels from their mean",
        "depths": ", ".join(map(str, grid.depths)) + f", hidden width {min(rows, columns)}",
        "initialization": f"Gaussian, scale {grid.init_scale:g}",
        "rule": f"GroupRMSprop, learning rate {grid.learning_rate:g}",
        "stopped": f"at the best of {grid.validation_fraction:.0%} of the observed pixels, held out; runs "
        f"end at a train loss of {grid.train_loss_threshold:g} or after {grid.steps:,} steps",
        "chosen on": "the cameraman of scikit-image, 128 × 128, with 30%, 60% and 90% missing: learning "
        "rate and scale, by the mean PSNR of both depths",
        "nuclear norm": f"least one with every observed pixel within {grid.epsilon:g}; none held out",
        "biharmonic": "inpaint_biharmonic of scikit-image" if has_biharmonic else NO_SCIKIT_IMAGE,
    }


def _table(results: ImagesResults) -> pa.Table:
    rows = []
    for share, method in product(results.grid.missing, results.methods):
        ratios = psnr(results.of("error", method, share))
        ranks = None if method == BIHARMONIC else results.of("effective_rank", method, share)
        rows.append(
            {
                "missing": f"{share:.0%}",
                "method": method,
                "PSNR in dB": float(np.median(ratios)),
                "least": float(ratios.min()),
                "largest": float(ratios.max()),
                "effective rank": None if ranks is None else float(np.median(ranks)),
            }
        )
    return pa.Table.from_pylist(rows)


def _curves(results: ImagesResults) -> Picture:
    shares = results.grid.missing
    percents = [100 * share for share in shares]
    figure, ((ratios, ranks),) = new_figure(columns=2)
    for method in results.methods:
        errors = np.array([results.of("error", method, share) for share in shares])
        draw_spread(ratios, percents, psnr(errors), _STYLES[method], method)
        if method != BIHARMONIC:
            values = [results.of("effective_rank", method, share) for share in shares]
            draw_spread(ranks, percents, values, _STYLES[method], method)
    ratios.set(xlabel="missing pixels (%)", ylabel="PSNR of the missing pixels (dB)")
    ranks.set(xlabel="missing pixels (%)", ylabel="effective rank of the product", ylim=(0, None))
    add_legend(ratios)
    return Picture.of(figure, f"Medians and ranges over {results.grid.seeds} seeds.")


def _pictures(results: ImagesResults, missing: float) -> Picture:
    problem = results.problems[missing, 0]
    shown: dict[str, Image] = {
        "original": problem.image,
        f"{missing:.0%} missing": np.where(problem.observed, problem.image, 1.0),
    } | {method: results.pictures[method, missing] for method in results.methods}
    figure = Figure(figsize=(1.55 * len(shown), 2.35), layout="constrained")
    for axes, (name, image) in zip(figure.subplots(1, len(shown)), shown.items(), strict=True):
        axes.imshow(image, cmap=_GRAYS, vmin=0, vmax=1, interpolation="none")
        axes.set(xticks=[], yticks=[], title=name)
        if name in results.methods:
            axes.set_xlabel(f"{psnr(problem.error(image)):.1f} dB", fontsize=SMALL_FONT_SIZE)
    return Picture.of(figure, f"{missing:.0%} of the pixels missing, shown white: the first seed.")
