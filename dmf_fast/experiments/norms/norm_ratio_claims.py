"""Claims about the penalty on the ratio of norms, decided by the ends of the runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dmf_fast.experiments.page.comparison import PAIRED_RULE, extent, less
from dmf_fast.experiments.page.papers import OWN
from dmf_fast.experiments.page.section import Claim, verdict

SOURCE = "Zhao 2022, abstract"
SMALL_ERROR = 0.01
LARGE_ERROR = 0.1
MOST_TIMES_WORSE = 10.0
MOST_OFF_IN_RANK = 0.1


@dataclass(frozen=True)
class RatioErrors:
    """Measures at the ends of the runs; every array is ``(seeds,)``.

    Attributes:
        adam: reconstruction errors of one penalized matrix with Adam.
        descent: the same for gradient descent at its best learning rate.
        descent_at_one: the lowest error on the tuning problem at a learning rate of 1.
        deep: errors at depth 3 without a penalty.
        adam_rank, true_rank: effective ranks of the penalized matrix with Adam and of the truth.

    """

    adam: NDArray[np.float64]
    descent: NDArray[np.float64]
    descent_at_one: float
    deep: NDArray[np.float64]
    adam_rank: NDArray[np.float64]
    true_rank: NDArray[np.float64]


def claims(errors: RatioErrors) -> list[Claim]:
    """Decide all claims."""
    return [as_good_as_depth(errors), low_rank(errors), only_adaptive(errors), large_rates(errors)]


def as_good_as_depth(errors: RatioErrors) -> Claim:
    """Return the claim that with Adam, the penalty replaces depth."""
    times = float(np.median(errors.adam) / np.median(errors.deep))
    small = (np.concatenate([errors.adam, errors.deep]) <= SMALL_ERROR).all()
    return Claim(
        "With Adam, depth 1 with the penalty recovers the matrix, as depth 3 does without.",
        SOURCE,
        f"Both errors are at most {SMALL_ERROR:g} in every seed, and the median with the penalty is at most "
        f"{MOST_TIMES_WORSE:g} times that of depth 3.",
        verdict(bool(small) and times <= MOST_TIMES_WORSE),
        f"Errors with the penalty {extent(errors.adam)}, of depth 3 {extent(errors.deep)}; ratio of the "
        f"medians {times:.2g}.",
    )


def low_rank(errors: RatioErrors) -> Claim:
    """Return the claim that the matrix is of low rank."""
    off = np.abs(errors.adam_rank / errors.true_rank - 1)
    return Claim(
        "Trained with Adam and the penalty, the matrix has about the effective rank of the truth.",
        SOURCE,
        f"In every seed its effective rank is within {MOST_OFF_IN_RANK:.0%} of that of the truth.",
        verdict(bool((off <= MOST_OFF_IN_RANK).all())),
        f"Effective ranks {extent(errors.adam_rank)}, of the truths {extent(errors.true_rank)}.",
    )


def only_adaptive(errors: RatioErrors) -> Claim:
    """Return the claim that the penalty has no effect with plain gradient descent, tuned as Adam is."""
    smaller = less("Adam", errors.adam, "gradient descent", errors.descent)
    return Claim(
        "The penalty takes effect only with adaptive optimizers such as Adam, not with gradient descent.",
        SOURCE,
        "With learning rate and penalty tuned alike for both, the error of gradient descent is above "
        f"{LARGE_ERROR:g} in every seed, and that of Adam at most {SMALL_ERROR:g} in every seed and below "
        f"that of gradient descent, {PAIRED_RULE}.",
        verdict(
            bool((errors.descent > LARGE_ERROR).all() and (errors.adam <= SMALL_ERROR).all())
            and smaller.holds
        ),
        smaller.evidence,
    )


def large_rates(errors: RatioErrors) -> Claim:
    """Return the claim that with gradient descent, the effect depends on the learning rate."""
    return Claim(
        "Within the same number of steps the penalty takes effect with gradient descent as well, but only at "
        "a learning rate far above 1.",
        OWN,
        f"Within as many steps as with Adam, the error of gradient descent is at most {SMALL_ERROR:g} in "
        f"every seed at its best learning rate, and above {LARGE_ERROR:g} at a rate of 1 on the tuning "
        "problem, whatever the penalty.",
        verdict(bool((errors.descent <= SMALL_ERROR).all()) and errors.descent_at_one > LARGE_ERROR),
        f"Errors at the best rate {extent(errors.descent)}; at a rate of 1 at least "
        f"{errors.descent_at_one:.2g}.",
    )
