"""Claims about an image with missing pixels: on rank, depth and early stopping."""

from __future__ import annotations

from itertools import product

import numpy as np

from dmf_fast.experiments.page.comparison import PAIRED_RULE, Comparison, less
from dmf_fast.experiments.page.papers import OWN
from dmf_fast.experiments.page.section import Claim, verdict
from dmf_fast.experiments.recovery.images_runs import BIHARMONIC, NUCLEAR_NORM, ImagesResults
from dmf_fast.extras import missing

NO_SCIKIT_IMAGE = missing("Biharmonic inpainting", "skimage")


def psnr(error: float | np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio in dB for mean squared errors of pixels from 0 to 1.

    >>> psnr(np.array([0.1, 0.01]))
    array([10., 20.])
    """
    return -10 * np.log10(np.asarray(error, dtype=np.float64))


def claims(results: ImagesResults) -> list[Claim]:
    """Decide the claims about low rank and depth on an image."""
    deciding = (_smoothness, _many_missing, _few_missing, _rank, _early_stopping)
    return [decide(results) for decide in deciding]


def _smoothness(results: ImagesResults) -> Claim:
    of_rank = [method for method in results.methods if method != BIHARMONIC]
    is_there = BIHARMONIC in results.methods
    pairs = list(product(results.grid.missing, of_rank)) if is_there else []
    compared = [_errors(results, BIHARMONIC, method, share) for share, method in pairs]
    gains = [
        float(np.median(psnr(results.of("error", BIHARMONIC, share) / results.of("error", method, share))))
        for share, method in pairs
    ]
    return Claim(
        "Low rank alone restores an image worse than smoothness alone.",
        "Li, Xu, Luo & Wang 2020, abstract: low rank alone is not enough for images; the comparison with "
        "biharmonic inpainting is of this project",
        "At every share of missing pixels the mean squared error of biharmonic inpainting is below that of "
        f"every depth and of the nuclear norm, {PAIRED_RULE}.",
        verdict(all(one.holds for one in compared)) if is_there else "not tested",
        f"{_count(compared, 'better')}, by {min(gains):.1f} to {max(gains):.1f} dB (medians over the seeds)"
        if is_there
        else NO_SCIKIT_IMAGE,
    )


def _many_missing(results: ImagesResults) -> Claim:
    share = max(results.grid.missing)
    compared = [_errors(results, "depth 3", other, share) for other in ("depth 2", NUCLEAR_NORM)]
    return Claim(
        f"With {share:.0%} of the pixels missing depth 3 restores better than depth 2 and the nuclear norm.",
        f"{OWN}: whether what Arora et al. 2019 show of matrices of low rank holds of an image",
        f"With {share:.0%} missing the mean squared error of depth 3 is below that of depth 2 and that of "
        f"the nuclear norm, both {PAIRED_RULE}.",
        verdict(all(one.holds for one in compared)),
        "; ".join(one.evidence for one in compared),
    )


def _few_missing(results: ImagesResults) -> Claim:
    share = min(results.grid.missing)
    compared = _errors(results, NUCLEAR_NORM, "depth 3", share)
    return Claim(
        f"With {share:.0%} of the pixels missing the nuclear norm restores better than depth 3.",
        OWN,
        f"With {share:.0%} missing the mean squared error of the nuclear norm is below that of depth 3, "
        f"{PAIRED_RULE}.",
        verdict(compared.holds),
        compared.evidence,
    )


def _rank(results: ImagesResults) -> Claim:
    shares = results.grid.missing
    ranks = {
        method: [results.of("effective_rank", method, share) for share in shares]
        for method in ("depth 3", "depth 2", NUCLEAR_NORM)
    }
    compared = [
        less("depth 3", deep, other, others)
        for other in ("depth 2", NUCLEAR_NORM)
        for deep, others in zip(ranks["depth 3"], ranks[other], strict=True)
    ]
    medians = [
        f"{method}: {', '.join(f'{np.median(one):.3g}' for one in values)}"
        for method, values in ranks.items()
    ]
    return Claim(
        "On an image, too, depth 3 finds a lower effective rank than depth 2 and the nuclear norm.",
        f"{OWN}, after Arora et al. 2019, figure 2, which is about random matrices",
        "At every share of missing pixels the effective rank of the product at depth 3, at the step of the "
        f"best validation, is below that at depth 2 and that of the least nuclear norm, {PAIRED_RULE}.",
        verdict(all(one.holds for one in compared)),
        f"{_count(compared, 'lower')}; medians at {', '.join(f'{share:.0%}' for share in shares)} missing: "
        + "; ".join(medians),
    )


def _early_stopping(results: ImagesResults) -> Claim:
    compared = [
        less(
            f"{share:.0%} missing, stopped",
            results.of("stopped_rmse", "depth 3", share),
            "at the end",
            results.of("ended_rmse", "depth 3", share),
        )
        for share in results.grid.missing
    ]
    return Claim(
        "At depth 3 it pays to stop before every observed pixel is fitted.",
        OWN,
        "At every share of missing pixels the error over them at the step of the best validation is below "
        f"that at the last step (root mean square in standard deviations, before clipping), {PAIRED_RULE}.",
        verdict(all(one.holds for one in compared)),
        "; ".join(one.evidence for one in compared),
    )


def _errors(results: ImagesResults, method: str, than: str, missing: float) -> Comparison:
    one, other = (results.of("error", name, missing) for name in (method, than))
    return less(method, one, than, other)


def _count(compared: list[Comparison], word: str) -> str:
    return f"{word} in {sum(one.holds for one in compared)} of {len(compared)} comparisons".capitalize()
