"""Fitting without bound: the bound is true, the rules tell right from wrong, and the experiment is whole."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from dmf_fast.chain import balancedness, chain_product
from dmf_fast.experiments.norms import unbounded
from dmf_fast.experiments.norms.unbounded import (
    Curve,
    bounded_entry,
    falling_rank,
    least_entry,
    unbounded_entry,
)
from dmf_fast.experiments.page.section import Section
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running import cached_trials
from dmf_fast.training import FitOptions, Trials, fit

LOSS = np.geomspace(0.5, 1e-5, 200)
EPSILON = np.sqrt(3 * LOSS)


@pytest.fixture(scope="module")
def section(folder: Path) -> Section:
    return unbounded.run(Reproduction(folder, quick=True, progress=False))


def test_the_quick_experiment_reproduces_the_claims(section: Section) -> None:
    assert [claim.verdict for claim in section.claims] == ["reproduced"] * 3
    assert all(claim.statement and claim.source and claim.rule and claim.evidence for claim in section.claims)
    assert len(section.figures) == len(section.tables) == 1
    table = section.tables[0].table
    assert table["depth"].to_pylist() == [2, 2, 3, 3, 4, 4]
    assert [work.dims for work in section.work] == [(2,) * 3, (2,) * 4, (2,) * 5]
    assert sum(work.steps for work in section.work) == sum(table["steps"].to_pylist())


def test_the_same_call_again_repeats_no_run(
    section: Section, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a run was repeated")

    monkeypatch.setattr(import_module("dmf_fast.training.fit_many"), "train_until_done", refuse)
    assert unbounded.run(Reproduction(folder, quick=True, progress=False)) == section


def test_an_interrupted_call_reports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_trials, "fit_many", lambda *_, **__: Trials([]))
    with pytest.raises(KeyboardInterrupt):
        unbounded.run(Reproduction(tmp_path, quick=True, progress=False))


def test_the_bounds_hold_for_every_matrix_of_positive_determinant() -> None:
    random = np.random.default_rng(0)
    residuals = random.standard_normal((20_000, 3)) * 10 ** random.uniform(-6, 0, (20_000, 1))
    w_12, w_21, w_22 = (residuals + np.array([1, 1, 0])).T
    # Close to singular, where the bounds are tight, and far from it.
    w_11 = w_12 * w_21 / w_22 * (1 + 10 ** random.uniform(-12, 3, 20_000) * np.sign(w_12 * w_21))
    loss = (residuals**2).mean(axis=1)
    is_small = loss < 1 / 3
    assert is_small.sum() > 10_000
    assert (w_11 * w_22 > w_12 * w_21)[is_small].all()

    assert (abs(w_11) > least_entry(loss))[is_small].all()
    singular_values = np.linalg.svd(np.array([[w_11, w_12], [w_21, w_22]]).transpose(2, 0, 1))[1]
    rounding = 1e-15 * singular_values[:, 0]
    assert (singular_values[:, 1] <= np.sqrt(3 * loss) + rounding)[is_small].all()


def test_the_bound_is_zero_where_nothing_follows() -> None:
    np.testing.assert_array_equal(least_entry([1 / 3, 0.4, 100.0]), 0)


@pytest.mark.parametrize("determinant", [1, -1])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_the_start_is_small_balanced_and_of_the_wanted_determinant(depth: int, determinant: int) -> None:
    for seed in range(20):
        factors = unbounded.start_factors(depth, determinant, seed)
        product = chain_product(factors)
        assert torch.linalg.det(product).sign() == determinant
        assert torch.linalg.matrix_norm(product) < 4 * unbounded.INIT_SCALE
        assert balancedness(factors) < 1e-15


def test_at_depth_2_the_factors_remain_transposes_of_each_other() -> None:
    trial = unbounded._trial(2, 1, 0, steps=0)
    factors = [factor.clone() for factor in trial.factors]
    fit(factors, trial.train, partial(torch.optim.SGD, lr=1e-2), FitOptions(steps=20_000, progress=False))
    assert torch.equal(factors[0], factors[1].T)


def curve(
    entry: np.ndarray,
    distance: np.ndarray | None = None,
    rank: np.ndarray | None = None,
    loss: np.ndarray = LOSS,
) -> Curve:
    distance = EPSILON / 2 if distance is None else distance
    return Curve(2, 1, loss, entry, distance, 1 + 1e-3 * EPSILON if rank is None else rank)


GROWING = curve(1 / EPSILON)


def test_an_entry_that_grows_as_it_must_is_unbounded() -> None:
    assert unbounded_entry([GROWING, curve(3 / EPSILON)]).verdict == "reproduced"


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(curve(np.ones_like(LOSS)), id="bounded"),
        pytest.param(curve(least_entry(LOSS) * 0.9), id="below the bound"),
        pytest.param(curve(1 / EPSILON**2), id="too fast"),
        pytest.param(curve(1 / EPSILON * (1 + 0.2 * (np.arange(200) == 50))), id="not rising"),
        pytest.param(replace(GROWING, loss=200 * LOSS), id="not fitted"),
        pytest.param(curve(np.full_like(LOSS, np.nan)), id="not finite"),
    ],
)
def test_one_run_that_does_not_grow_so_refutes_the_claim(wrong: Curve) -> None:
    assert unbounded_entry([GROWING, wrong]).verdict == "not reproduced"


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(curve(1 / EPSILON, distance=2 * EPSILON), id="far from rank 1"),
        pytest.param(curve(1 / EPSILON, rank=np.full_like(LOSS, 1.2)), id="of higher rank"),
        pytest.param(replace(GROWING, loss=1000 * LOSS), id="not fitted"),
        pytest.param(curve(1 / EPSILON, rank=np.full_like(LOSS, np.nan)), id="not finite"),
    ],
)
def test_the_rank_falls_only_where_all_runs_say_so(wrong: Curve) -> None:
    assert falling_rank([GROWING, GROWING]).verdict == "reproduced"
    assert falling_rank([GROWING, wrong]).verdict == "not reproduced"


def test_the_entry_is_bounded_only_where_it_rests_and_the_loss_vanishes() -> None:
    loss = np.geomspace(0.5, 1e-9, 200)
    resting = curve(2 - loss, loss, loss, loss)
    growing = curve(np.sqrt(1 / loss), loss, loss, loss)
    assert bounded_entry([resting]).verdict == "reproduced"
    assert bounded_entry([resting, growing]).verdict == "not reproduced"
    assert bounded_entry([replace(resting, loss=100 * loss)]).verdict == "not reproduced"


@pytest.mark.parametrize(
    ("slope", "verdict"),
    [(0.39, "not reproduced"), (0.41, "reproduced"), (0.59, "reproduced"), (0.61, "not reproduced")],
)
def test_an_entry_grows_about_as_the_root_of_the_inverse_loss(slope: float, verdict: str) -> None:
    far_above = curve(100 * LOSS**-slope)
    assert far_above.slope() == pytest.approx(slope)
    assert unbounded_entry([GROWING, far_above]).verdict == verdict


def test_the_slope_is_that_of_the_last_decade_of_the_loss() -> None:
    loss = np.array([1.0, 1e-2, 1e-3, 1e-4])
    assert curve(np.array([9.0, 1.0, 1.0, 10.0]), loss=loss).slope() == pytest.approx(1.0)


@pytest.mark.parametrize(("least", "verdict"), [(1e-3, "reproduced"), (1.01e-3, "not reproduced")])
def test_runs_with_a_positive_determinant_must_come_to_a_loss_of_a_thousandth(
    least: float, verdict: str
) -> None:
    loss = np.append(np.geomspace(0.3, 2 * least, 200), least)
    run = curve(1 / np.sqrt(3 * loss), np.sqrt(3 * loss) / 2, np.ones_like(loss), loss)
    assert unbounded_entry([GROWING, run]).verdict == verdict
    assert falling_rank([GROWING, run]).verdict == verdict


@pytest.mark.parametrize(("rank", "verdict"), [(1.0099, "reproduced"), (1.0101, "not reproduced")])
def test_an_effective_rank_within_a_hundredth_of_one_is_one(rank: float, verdict: str) -> None:
    assert falling_rank([GROWING, curve(1 / EPSILON, rank=np.full_like(LOSS, rank))]).verdict == verdict


@pytest.mark.parametrize(("times", "verdict"), [(0.999, "reproduced"), (1.001, "not reproduced")])
def test_the_distance_to_rank_one_must_stay_within_epsilon_once_that_is_below_one(
    times: float, verdict: str
) -> None:
    distance = np.where(EPSILON < 1, times * EPSILON, 10.0)
    assert falling_rank([curve(1 / EPSILON, distance)]).verdict == verdict


@pytest.mark.parametrize(
    ("varies", "least", "verdict"),
    [
        (0.099, 1e-8, "reproduced"),
        (0.101, 1e-8, "not reproduced"),
        (0.099, 1.01e-8, "not reproduced"),
    ],
)
def test_an_entry_that_varies_by_less_than_a_tenth_at_small_losses_is_bounded(
    varies: float, least: float, verdict: str
) -> None:
    loss = np.array([0.5, 1.01e-3, 1e-3, 1e-5, least])
    entry = np.array([0.0, 5.0, 1.0, 1.0 + varies, 1.0])
    assert bounded_entry([curve(entry, loss, loss, loss)]).verdict == verdict


def test_runs_are_those_that_the_claims_were_decided_with() -> None:
    trial = unbounded._trial(3, -1, 1, steps=5)
    assert trial.labels == {"depth": 3, "determinant": -1, "seed": 1}
    assert (trial.spec.options["lr"], trial.options.steps) == (2e-3, 5)
    assert trial.options.train_loss_threshold == 1e-8
    rows, columns = trial.train.coordinates()
    entries = zip(rows.tolist(), columns.tolist(), trial.train.values.tolist(), strict=True)
    assert sorted(entries) == [(0, 1, 1.0), (1, 0, 1.0), (1, 1, 0.0)]
    assert {name for name in unbounded.MEASURES} <= trial.columns()
