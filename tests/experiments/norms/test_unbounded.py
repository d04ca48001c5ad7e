"""Fitting without bound: runs start as the page says, and the bounds are true."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from dmf_fast.chain import balancedness, chain_product
from dmf_fast.experiments.norms import unbounded
from dmf_fast.experiments.norms.unbounded_runs import (
    INIT_SCALE,
    MEASURES,
    Curve,
    Observed,
    TwoByTwo,
    balanced_start,
    determinant_of,
    least_entry,
    most_effective_rank,
    random_factors,
)
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running import cached_trials
from dmf_fast.training import FitOptions, Trials, fit, fit_many

PERTURBED = Observed(-2.0, 0.5, 0.1)


def fitted(observed: Observed, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return matrices, ``(count, 2, 2)``, whose determinant has the sign of w_12 · w_21, and their losses.

    Some are close to singular, where the bounds are tight, others far from it.
    """
    random = np.random.default_rng(0)
    residuals = random.standard_normal((count, 3)) * 10 ** random.uniform(-6, 0, (count, 1))
    values = np.array([observed.w_12, observed.w_21, observed.w_22])
    w_12, w_21, w_22 = (residuals + values).T
    w_11 = (
        w_12 * w_21 / w_22 * (1 + 10 ** random.uniform(-12, 3, count) * observed.sign * np.sign(w_12 * w_21))
    )
    loss = (residuals**2).mean(axis=1)
    return np.array([[w_11, w_12], [w_21, w_22]]).transpose(2, 0, 1), loss


@pytest.mark.parametrize("observed", [Observed(), PERTURBED, Observed(-3.0, -0.2, -0.01)])
def test_the_entry_is_above_its_bound_in_every_matrix_of_the_fitting_determinant(observed: Observed) -> None:
    matrices, loss = fitted(observed, 20_000)
    bound = least_entry(loss, observed)
    small = np.sqrt(3 * loss) < min(abs(observed.w_12), abs(observed.w_21))
    assert small.sum() > 10_000
    products = matrices[:, 0, 0] * matrices[:, 1, 1], matrices[:, 0, 1] * matrices[:, 1, 0]
    assert (observed.sign * products[0] > observed.sign * products[1])[small].all()
    assert (abs(matrices[:, 0, 0]) > bound)[small].all()
    np.testing.assert_array_equal(bound[~small], 0)


def test_the_rank_is_within_its_bounds_in_every_matrix_of_positive_determinant() -> None:
    matrices, loss = fitted(Observed(), 20_000)
    values = np.linalg.svd(matrices)[1]
    small = loss < 1 / 3
    assert (values[:, 1] <= np.sqrt(3 * loss) + 1e-15 * values[:, 0])[small].all()
    shares = values / values.sum(axis=1, keepdims=True)
    entropy = -(shares * np.log(np.maximum(shares, 1e-300))).sum(axis=1)
    assert (np.exp(entropy) <= most_effective_rank(loss) + 1e-12)[small].all()


def test_the_bounds_of_the_paper_s_values_are_known() -> None:
    np.testing.assert_allclose(least_entry([1 / 12, 1e-4 / 3]), [0.5, 0.99**2 / 0.01])
    np.testing.assert_array_equal(least_entry([1 / 3, 0.4, 100.0]), 0)
    np.testing.assert_allclose(least_entry([0.0], PERTURBED), [10.0])
    # ε = 1/3: the ratio is 1/4, the shares 4/5 and 1/5.
    np.testing.assert_allclose(most_effective_rank([1 / 27]), [0.8**-0.8 * 0.2**-0.2])
    np.testing.assert_allclose(most_effective_rank([1 / 12, 1.0]), 2)


@pytest.mark.parametrize("determinant", [1, -1])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_balanced_start_is_small_and_of_the_wanted_determinant(depth: int, determinant: int) -> None:
    for seed in range(20):
        factors = balanced_start(depth, determinant, seed)
        product = chain_product(factors)
        assert torch.linalg.det(product).sign() == determinant
        assert torch.linalg.matrix_norm(product) < 4 * INIT_SCALE
        assert balancedness(factors) < 1e-15


@pytest.mark.parametrize("determinant", [1, -1])
def test_random_starts_have_the_deviation_of_the_public_code(
    determinant: int,
) -> None:
    starts = [random_factors(3, determinant, seed) for seed in range(300)]
    assert all(np.sign(determinant_of(factors)) == determinant for factors in starts)
    entries = torch.stack([factor for factors in starts for factor in factors])
    assert float(entries.std()) == pytest.approx(8e-3, rel=0.05)
    assert abs(float(entries.mean())) < 5e-4
    assert min(float(balancedness(factors)) for factors in starts) > 1e-6


def test_a_tiny_determinant_of_a_large_matrix_keeps_its_sign() -> None:
    factors = [
        torch.tensor([[1e8, 0.0], [0.0, 1e-12]], dtype=torch.float64),
        -torch.eye(2, dtype=torch.float64),
    ]
    factors[1][0, 0] = 1e3
    assert determinant_of(factors) == pytest.approx(-0.1)


def test_at_depth_2_the_factors_remain_transposes_of_each_other() -> None:
    trial = TwoByTwo(Observed(), "balanced", 2, 1, 0).trial(steps=0)
    factors = [factor.clone() for factor in trial.factors]
    fit(factors, trial.train, partial(torch.optim.SGD, lr=1e-2), FitOptions(steps=20_000, progress=False))
    assert torch.equal(factors[0], factors[1].T)


def test_a_run_observes_three_values_and_measures_the_fourth() -> None:
    problem = TwoByTwo(PERTURBED, "balanced", 3, -1, 1)
    trial = problem.trial(steps=5)
    assert trial.labels == {
        "w_12": -2.0, "w_21": 0.5, "w_22": 0.1, "start": "balanced", "depth": 3, "determinant": -1, "seed": 1,
    }  # fmt: skip
    assert trial.options.steps == 5
    rows, columns = trial.train.coordinates()
    entries = zip(rows.tolist(), columns.tolist(), trial.train.values.tolist(), strict=True)
    assert sorted(entries) == [(0, 1, -2.0), (1, 0, 0.5), (1, 1, 0.1)]
    (one,) = fit_many([trial], progress=False).results
    curve = Curve.of(problem, one)
    product = chain_product(one.factors)
    assert curve.entry[-1] == pytest.approx(abs(float(product[0, 0])))
    assert curve.distance[-1] == pytest.approx(float(torch.linalg.svdvals(product)[1]))
    assert curve.last_determinant == pytest.approx(float(torch.linalg.det(product)))
    np.testing.assert_allclose(curve.last_product, product)
    assert curve.steps == 5
    assert set(MEASURES) <= trial.columns()


def test_a_determinant_grows_the_entry_where_it_has_the_sign_of_the_other_two() -> None:
    problem = TwoByTwo(Observed(), "random", 2, 1, 0)
    assert problem.grows
    assert not replace(problem, determinant=-1).grows
    assert not replace(problem, observed=PERTURBED).grows
    assert replace(problem, observed=PERTURBED, determinant=-1).grows


def test_the_full_runs_are_those_that_the_page_speaks_of() -> None:
    original, perturbed = ([*some(quick=False)] for some in (unbounded.original, unbounded.perturbed))
    assert len(set(original + perturbed)) == len(original + perturbed) == 3 * 5 * 3 + 5 * 3 * 2 * 5
    assert {(one.start, one.determinant) for one in original} == {
        ("balanced", 1),
        ("balanced", -1),
        ("random", 1),
    }
    assert {one.observed.w_22 for one in perturbed} == {0.0, 0.01, 0.05, 0.1, 0.5}
    assert {(one.observed.w_12, one.observed.w_21) for one in perturbed} == {(-2.0, 0.5)}
    quick = [*unbounded.original(quick=True), *unbounded.perturbed(quick=True)]
    assert set(quick) < {*original, *perturbed}
    assert {one.seed for one in quick} == {0}


@pytest.mark.parametrize("quick", [True, False])
def test_trials_have_the_settings_that_the_page_says(quick: bool) -> None:
    settings = unbounded._settings(70, 60, quick=quick)
    trials = {problem: problem.trial(70) for problem in unbounded.original(quick=quick)}
    trials |= {problem: problem.trial(60) for problem in unbounded.perturbed(quick=quick)}
    rates = dict.fromkeys(f"{one.spec.options['lr']:g} at depth {of.depth}" for of, one in trials.items())
    assert settings["learning rates"] == ", ".join(rates)
    (threshold,) = {one.options.train_loss_threshold for one in trials.values()}
    assert settings["steps"] == f"70, perturbed 60, or to a train loss of {threshold:g}"
    assert settings["seeds"] == str(len({of.seed for of in trials}))
    values = dict.fromkeys(f"{of.observed.w_22:g}" for of in trials if of.observed != Observed())
    assert settings["observed"].endswith(f"W_22 among {', '.join(values)}")
    sizes = [
        torch.linalg.svdvals(chain_product(one.factors))
        for of, one in trials.items() if of.start == "balanced"
    ]  # fmt: skip
    assert all(0.005 <= size <= 0.015 for size in torch.cat(sizes))
    assert settings["balanced start"] == "eigenvalues of W ±0.005 to ±0.015"


def test_an_interrupted_call_reports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_trials, "fit_many", lambda *_, **__: Trials([]))
    with pytest.raises(KeyboardInterrupt):
        unbounded.run(Reproduction(tmp_path, quick=True, progress=False))
