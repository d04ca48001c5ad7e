"""Claims about the unobserved entry and the rank, and the rules that decide them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dmf_fast.experiments.norms.unbounded_runs import (
    LOSS_THRESHOLD,
    Curve,
    least_entry,
    most_effective_rank,
)
from dmf_fast.experiments.page.comparison import extent
from dmf_fast.experiments.page.papers import OWN
from dmf_fast.experiments.page.section import Claim, verdict

SMALL_LOSS = 1e-3
LOW_LOSS = 1e-2


def unbounded_entry(growing: Sequence[Curve]) -> Claim:
    """Return the claim that the unobserved entry grows without bound, from balanced runs with det W > 0."""
    above = [not curve.below().any() for curve in growing]
    rising = [bool((np.diff(curve.entry[curve.loss < 1 / 12]) > 0).all()) for curve in growing]
    fitted = [bool(curve.loss[-1] <= SMALL_LOSS) for curve in growing]
    slopes = [curve.slope() for curve in growing]
    return Claim(
        "From a balanced start of positive determinant the unobserved entry, and with it every norm, grows "
        "without bound.",
        "Razin & Cohen 2020; the bound is derived here",
        f"From balanced starts of positive determinant every loss ends at {SMALL_LOSS:g} or below; "
        "|W_11| ≥ (1 − ε)² / ε in every row with ε < 1; |W_11| rises from row to row once ε < 1/2; and its "
        "slope on −log loss, both logarithmic, is 0.4 to 0.6 over the last decade of the loss.",
        verdict(all(fitted + above + rising) and all(0.4 <= slope <= 0.6 for slope in slopes)),
        f"Fitted {sum(fitted)}, above the bound {sum(above)}, rising {sum(rising)} of {len(growing)} runs; "
        f"slopes {extent(slopes)}; |W_11| at the end {extent([curve.entry[-1] for curve in growing])}.",
    )


def falling_rank(growing: Sequence[Curve]) -> Claim:
    """Return the claim that the rank, unlike the norms, is driven down, from balanced runs with det W > 0."""
    near = [bool((curve.distance**2 <= 3 * curve.loss)[curve.loss < 1 / 3].all()) for curve in growing]
    # Effective ranks are computed up to rounding of their limit, 1.
    ranked = [
        bool((curve.effective_rank <= most_effective_rank(curve.loss) + 1e-12)[1:].all()) for curve in growing
    ]
    losses, ranks = ([getattr(curve, name)[-1] for curve in growing] for name in ("loss", "effective_rank"))
    return Claim(
        "From a balanced start of positive determinant the effective rank falls to 1 and the distance to "
        "rank 1 to zero.",
        "Razin & Cohen 2020; the bounds are derived here",
        f"From balanced starts of positive determinant every loss ends at {SMALL_LOSS:g} or below, and the "
        "effective rank at 1.01 or below; σ_2 ≤ ε in every row with ε < 1; and from ε < 1/2 on the effective "
        "rank is at most that of the singular values 1 and (ε / (1 − ε))².",
        verdict(bool(np.max(losses) <= SMALL_LOSS and np.max(ranks) <= 1.01 and all(near + ranked))),
        f"At the end losses {extent(losses)}, effective ranks at most {max(ranks):.5f}, σ_2 "
        f"{extent([curve.distance[-1] for curve in growing])}; σ_2 ≤ ε in {sum(near)}, the effective rank "
        f"within its bound in {sum(ranked)} of {len(near)} runs.",
    )


def bounded_entry(resting: Sequence[Curve]) -> Claim:
    """Return the claim that the entry stays bounded if the determinant has the other sign."""
    changes = [_variation(curve) for curve in resting]
    losses = [float(curve.loss[-1]) for curve in resting]
    return Claim(
        "From a determinant of the other sign than W_12 · W_21 the same entries, W_22 = 0 among them, are "
        "fitted while the unobserved one stays bounded.",
        f"{OWN}: a contrast that the paper does not claim",
        f"From balanced starts of the other sign every loss ends at {LOSS_THRESHOLD:g} or below, and |W_11| "
        f"varies by less than 0.1 over the rows with a loss of {SMALL_LOSS:g} or below; W_22 = 0.",
        verdict(all(loss <= LOSS_THRESHOLD for loss in losses) and all(change < 0.1 for change in changes)),
        f"Losses at the end {extent(losses)}; variation of |W_11| {extent(changes)}; |W_11| at the end "
        f"{extent([curve.entry[-1] for curve in resting])}, in {len(resting)} runs.",
    )


def perturbed_entry(perturbed: Sequence[Curve]) -> Claim:
    """Return the claim that the bound holds for other observed values, from runs of the matching sign."""
    deep, shallow = ([c for c in perturbed if (c.problem.depth > 2) == is_deep] for is_deep in (True, False))
    above = [not curve.below().any() for curve in deep]
    wrong, right = ([c for c in deep if _has_wrong_sign(c) == is_wrong] for is_wrong in (True, False))
    fitted = [bool(curve.loss[-1] <= LOW_LOSS) for curve in right]
    return Claim(
        "Other observed values change the bound, not the behavior: the unobserved entry grows to the order "
        "of |W_12 · W_21| / |W_22|, without bound where W_22 = 0.",
        "Razin & Cohen 2020, on the robustness to perturbations; the bound is derived here",
        "At every depth from 3 on, from balanced starts whose determinant has the sign of W_12 · W_21: "
        "|W_11| is at least (|w_12| − ε)(|w_21| − ε) / (|w_22| + ε), of the observed values, in every row "
        f"where ε is below |w_12| and |w_21|, and the loss ends at {LOW_LOSS:g} or below, so that this says "
        "something. Runs in which W_22 ends with the wrong sign cannot fit: their losses are reported apart. "
        "Depth 2 is left out, which was decided after looking at the runs: as steps unbalance the factors of "
        "a product that is not symmetric, the determinant can change its sign there.",
        verdict(bool(right) and all(fitted + above)),
        f"From depth 3 on, above the bound {sum(above)} of {len(deep)} runs"
        f"{_ends_of_right_sign(right)}{_ends_of_wrong_sign(wrong)}. At depth 2, above the bound "
        f"{sum(not curve.below().any() for curve in shallow)} of {len(shallow)}; in "
        f"{sum(c.last_determinant * c.problem.determinant < 0 for c in shallow)} the determinant ends with "
        "the other sign.",
    )


def unbalanced_starts(random: Sequence[Curve], growing: Sequence[Curve]) -> Claim:
    """Return the claim that the bound requires balanced starts, from runs of both kinds with det W > 0."""
    below = [curve for curve in random if curve.below().any()]
    turned = [curve for curve in below if curve.last_determinant < 0]
    depths = sorted({curve.problem.depth for curve in random})
    counts = ", ".join(
        f"{sum(c.problem.depth == depth for c in below)} of {sum(c.problem.depth == depth for c in random)} "
        f"at depth {depth}"
        for depth in depths
    )
    ends = f": |W_11| ends at {extent([curve.entry[-1] for curve in below])}" if below else ""
    return Claim(
        "The bound of the unobserved entry asks for balanced starts: from unbalanced ones the determinant "
        "can turn from positive to negative.",
        f"{OWN}; the paper's theorems assume balanced factors",
        "From starts of positive determinant no run from balanced factors comes below the bound; some from "
        "independent Gaussian entries do, and all of these end with a negative determinant.",
        verdict(bool(below) and len(turned) == len(below) and not any(c.below().any() for c in growing)),
        f"From Gaussian entries below the bound {counts}{ends}; of these {len(turned)} end with a negative "
        f"determinant. From balanced factors {sum(c.below().any() for c in growing)} of {len(growing)}.",
    )


def _variation(curve: Curve) -> float:
    """Return the variation of |W_11| over the rows with a small loss; infinite without any."""
    entries = curve.entry[curve.loss <= SMALL_LOSS]
    return float(np.ptp(entries)) if entries.size else math.inf


def _has_wrong_sign(curve: Curve) -> bool:
    """Return whether W_22 ends with a sign other than that of the observed value, unless that is 0."""
    return bool(curve.last_product[1, 1] * curve.problem.observed.w_22 < 0)


def _ends_of_right_sign(curves: Sequence[Curve]) -> str:
    if not curves:
        return ""
    bounds = [float(least_entry(curve.loss[-1], curve.problem.observed)) for curve in curves]
    return (
        f"; in the {len(curves)} whose W_22 does not have the wrong sign, losses at the end "
        f"{extent([curve.loss[-1] for curve in curves])}, bounds there {extent(bounds)}, |W_11| "
        f"{extent([curve.entry[-1] for curve in curves])}"
    )


def _ends_of_wrong_sign(curves: Sequence[Curve]) -> str:
    if not curves:
        return ""
    times = [3 * curve.loss[-1] / curve.problem.observed.w_22**2 for curve in curves]
    return (
        f"; apart from these, {len(curves)} whose W_22 has the wrong sign, losses at the end {extent(times)} "
        "times w_22² / 3, below which they cannot fall"
    )
