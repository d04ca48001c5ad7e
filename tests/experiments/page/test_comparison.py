"""The rules that decide on orderings."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_rel

from dmf_fast.experiments.page.comparison import less

LOW, HIGH = np.array([1.0, 2.0, 1.5, 1.2, 0.9]), np.array([3.0, 2.5, 4.0, 2.0, 1.8])


def test_smaller_in_every_seed_holds_and_the_converse_does_not() -> None:
    assert less("low", LOW, "high", HIGH).holds
    converse = less("high", HIGH, "low", LOW)
    assert not converse.holds
    assert "smaller in 0 of 5 seeds" in converse.evidence


def test_the_probability_is_that_of_a_paired_test_of_the_logarithms() -> None:
    expected = ttest_rel(np.log(LOW), np.log(HIGH), alternative="less").pvalue

    assert less("low", LOW, "high", HIGH).evidence.endswith(f"p = {expected:.2g}")


# With 4 degrees of freedom the 5% point of Student's t is −2.132, and 7% are below −1.84.
STEPS = np.array([-2.0, -1.0, 0.0, 1.0, 2.0]) / np.sqrt(2.5)  # of standard deviation 1


@pytest.mark.parametrize(
    ("t", "holds", "p"), [(-2.14, True, "0.0495"), (-2.12, False, "0.0507"), (-1.84, False, "0.07")]
)
def test_a_probability_of_a_twentieth_decides(t: float, holds: bool, p: str) -> None:
    ratios = t / np.sqrt(5) + STEPS
    found = less("one", np.exp(ratios), "other", np.ones(5))
    assert found.holds == holds
    assert found.evidence.endswith(f"p = {float(p):.2g}")


def test_up_to_four_seeds_must_agree_and_from_five_on_the_test_decides() -> None:
    """One of five is far below, so that the test sees only noise, although all five are below."""
    ratios = np.array([-5.0, -0.001, -0.001, -0.001, -0.001])
    assert less("one", np.exp(ratios[:4]), "other", np.ones(4)).holds
    assert not less("one", np.exp(ratios), "other", np.ones(5)).holds


def test_equal_is_not_smaller() -> None:
    found = less("one", [1.0, 1.0], "other", [1.0, 2.0])
    assert not found.holds
    assert found.evidence.endswith("smaller in 1 of 2 seeds")


def test_a_difference_within_the_noise_does_not_hold() -> None:
    noisy = LOW * np.array([0.5, 2.0, 0.7, 1.6, 0.9])

    assert not less("noisy", noisy, "low", LOW).holds


def test_few_seeds_must_agree_all() -> None:
    assert less("low", [1.0, 1.0], "high", [2.0, 3.0]).holds
    assert not less("low", [1.0, 4.0], "high", [2.0, 3.0]).holds


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_one_ratio_in_all_seeds_needs_no_statistic(factor: float) -> None:
    found = less("scaled", [factor] * 5, "one", [1.0] * 5)
    assert found.holds == (factor < 1)
    assert found.evidence.endswith("p = 0" if factor < 1 else "p = 1")
