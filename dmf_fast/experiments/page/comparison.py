"""Paired comparisons over seeds, which decide claims about an ordering."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dmf_fast.experiments.page.section import Claim, verdict

_LEVEL = 0.05
_ROUNDING = 1e-12
_FEWEST_SEEDS_FOR_A_TEST = 5

PAIRED_RULE = (
    f"by a paired one-sided t-test of the logarithms over the seeds, p < {_LEVEL}; with fewer than "
    f"{_FEWEST_SEEDS_FOR_A_TEST} seeds, in every seed"
)
"""The rule of `less` in words."""


@dataclass(frozen=True)
class Comparison:
    """Whether one quantity is smaller than another, and the numbers behind it."""

    holds: bool
    evidence: str


def claims_of(
    statements: Mapping[str, str],
    source: str,
    rules: Mapping[str, str],
    compared: Mapping[str, Comparison] | None,
    not_here: str,
) -> list[Claim]:
    """Return a claim for every statement, decided by the comparison of the same name.

    >>> claims_of({"a": "It falls."}, "here", {"a": "less"}, None, "no data")[0].verdict
    'not tested'
    """
    if compared is None:
        return [Claim(text, source, rules[name], "not tested", not_here) for name, text in statements.items()]
    return [
        Claim(statements[name], source, rules[name], verdict(one.holds), one.evidence)
        for name, one in compared.items()
    ]


def less(name: str, smaller: ArrayLike, than: str, larger: ArrayLike) -> Comparison:
    """Decide whether ``smaller`` is below ``larger``, pair by pair; all numbers must be above 0.

    >>> less("depth 3", [1.0, 2.0], "depth 2", [3.0, 9.0]).evidence
    'depth 3: median 1.5, depth 2: median 6; smaller in 2 of 2 seeds'
    """
    one, other = np.asarray(smaller, dtype=np.float64), np.asarray(larger, dtype=np.float64)
    ratios = np.log(one) - np.log(other)
    below = int((ratios < 0).sum())
    evidence = (
        f"{name}: median {np.median(one):.3g}, {than}: median {np.median(other):.3g}; "
        f"smaller in {below} of {len(ratios)} seeds"
    )
    if len(ratios) < _FEWEST_SEEDS_FOR_A_TEST:
        return Comparison(below == len(ratios), evidence)
    probability = _paired_test(ratios)
    return Comparison(probability < _LEVEL, f"{evidence}, p = {probability:.2g}")


def extent(values: ArrayLike) -> str:
    """Return the smallest and the largest number as text.

    >>> extent([0.25, 0.1234, 2])
    '0.123 to 2'
    """
    return f"{np.min(values):.3g} to {np.max(values):.3g}"


def _paired_test(ratios: np.ndarray) -> float:
    from scipy.stats import ttest_1samp  # here, as it is slow to import

    if np.ptp(ratios) <= _ROUNDING * np.abs(ratios).max():  # without spread, the statistic is undefined
        return 0.0 if ratios[0] < 0 else 1.0
    return float(ttest_1samp(ratios, 0.0, alternative="less").pvalue)
