"""What is claimed about the penalty on the ratio of norms, decided from the ends of the runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dmf_fast.experiments.page.comparison import PAIRED_RULE, less
from dmf_fast.experiments.page.section import Claim, verdict

SOURCE = "Zhao 2022, abstract"
RECOVERED = 0.01
NOT_RECOVERED = 0.1
MOST_TIMES_WORSE = 10.0
MOST_OFF_IN_RANK = 0.1


@dataclass(frozen=True)
class RatioErrors:
    """The ends of the runs, every array ``(seeds,)``.

    Attributes:
        adam: reconstruction errors of one penalized matrix with Adam.
        descent: the same with gradient descent at its best learning rate.
        descent_at_one: the least one on the tuning problem at a learning rate of 1.
        deep: of depth 3 without a penalty.
        adam_rank, true_rank: effective ranks, of the penalized matrix with Adam and of the truth.

    """

    adam: NDArray[np.float64]
    descent: NDArray[np.float64]
    descent_at_one: float
    deep: NDArray[np.float64]
    adam_rank: NDArray[np.float64]
    true_rank: NDArray[np.float64]


def claims(errors: RatioErrors) -> list[Claim]:
    """Decide on all claims."""
    return [as_good_as_depth(errors), low_rank(errors), only_adaptive(errors), large_rates(errors)]


def as_good_as_depth(errors: RatioErrors) -> Claim:
    """Return the claim that with Adam the penalty takes the place of depth."""
    times = float(np.median(errors.adam) / np.median(errors.deep))
    recovered = (np.concatenate([errors.adam, errors.deep]) <= RECOVERED).all()
    return Claim(
        "With Adam, depth 1 with the penalty completes the matrix about as well as depth 3 without.",
        SOURCE,
        f"Both errors are at most {RECOVERED:g} in every seed, and the median with the penalty is at most "
        f"{MOST_TIMES_WORSE:g} times that of depth 3.",
        verdict(bool(recovered) and times <= MOST_TIMES_WORSE),
        f"Errors with the penalty {_range(errors.adam)}, of depth 3 {_range(errors.deep)}; ratio of the "
        f"medians {times:.2g}.",
    )


def low_rank(errors: RatioErrors) -> Claim:
    """Return the claim that the matrix is of low rank."""
    off = np.abs(errors.adam_rank / errors.true_rank - 1)
    return Claim(
        "So trained, the matrix has the rank of the truth.",
        SOURCE,
        f"In every seed its effective rank is within {MOST_OFF_IN_RANK:.0%} of that of the truth.",
        verdict(bool((off <= MOST_OFF_IN_RANK).all())),
        f"Effective ranks {_range(errors.adam_rank)}, of the truths {_range(errors.true_rank)}.",
    )


def only_adaptive(errors: RatioErrors) -> Claim:
    """Return the claim that the penalty has no effect with plain gradient descent, tuned as Adam is."""
    smaller = less("Adam", errors.adam, "gradient descent", errors.descent)
    return Claim(
        "The penalty takes effect only with adaptive optimizers such as Adam, not with gradient descent.",
        SOURCE,
        "With learning rate and penalty tuned alike for both, the error of gradient descent is above "
        f"{NOT_RECOVERED:g} in every seed, and that of Adam below it, {PAIRED_RULE}.",
        verdict(bool((errors.descent > NOT_RECOVERED).all()) and smaller.holds),
        smaller.evidence,
    )


def large_rates(errors: RatioErrors) -> Claim:
    """Return the claim that with gradient descent the learning rate decides whether it has."""
    return Claim(
        "The penalty takes effect with gradient descent as well, but only at a learning rate far above 1.",
        "Of this project",
        f"At its best rate its error is at most {RECOVERED:g} in every seed; at a rate of 1 it is above "
        f"{NOT_RECOVERED:g} on the tuning problem, whatever the penalty.",
        verdict(bool(errors.descent.max() <= RECOVERED) and errors.descent_at_one > NOT_RECOVERED),
        f"Errors at the best rate {_range(errors.descent)}; at a rate of 1 at least "
        f"{errors.descent_at_one:.2g}.",
    )


def _range(values: NDArray[np.float64]) -> str:
    return f"{values.min():.3g} to {values.max():.3g}"
