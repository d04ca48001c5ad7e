"""The rules that decide on orderings."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_rel

from dmf_fast.experiments.comparison import less

LOW, HIGH = np.array([1.0, 2.0, 1.5, 1.2, 0.9]), np.array([3.0, 2.5, 4.0, 2.0, 1.8])


def test_smaller_in_every_seed_holds_and_the_converse_does_not() -> None:
    assert less("low", LOW, "high", HIGH).holds
    assert not less("high", HIGH, "low", LOW).holds


def test_the_probability_is_that_of_a_paired_test_of_the_logarithms() -> None:
    expected = ttest_rel(np.log(LOW), np.log(HIGH), alternative="less").pvalue

    assert less("low", LOW, "high", HIGH).evidence.endswith(f"p = {expected:.2g}")


def test_a_difference_within_the_noise_does_not_hold() -> None:
    noisy = LOW * np.array([0.5, 2.0, 0.7, 1.6, 0.9])

    assert not less("noisy", noisy, "low", LOW).holds


def test_few_seeds_must_agree_all() -> None:
    assert less("low", [1.0, 1.0], "high", [2.0, 3.0]).holds
    assert not less("low", [1.0, 4.0], "high", [2.0, 3.0]).holds


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_one_ratio_in_all_seeds_needs_no_statistic(factor: float) -> None:
    assert less("scaled", [factor] * 5, "one", [1.0] * 5).holds == (factor < 1)
