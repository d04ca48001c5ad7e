"""An image with missing pixels: what is observed, what is measured, how claims are decided, what is drawn."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from dmf_fast.experiments.recovery import images, images_runs
from dmf_fast.experiments.recovery.images_claims import claims, psnr
from dmf_fast.experiments.recovery.images_data import MaskedImage, portrait
from dmf_fast.experiments.recovery.images_runs import (
    BIHARMONIC,
    FULL,
    NUCLEAR_NORM,
    QUICK,
    ImagesGrid,
    ImagesResults,
    run_images,
)
from dmf_fast.experiments.reproduction import Reproduction
from tests.experiments.pictures import panels

TINY = ImagesGrid(block=60, missing=(0.2, 0.4), seeds=2, steps=20, record_every=10)
SIX = np.array([[0.0, 0.2, 0.4], [0.6, 0.8, 1.0]])
MASK = np.array([[True, False, True], [False, True, True]])


def test_the_portrait_is_gray_and_its_pixels_are_means_of_blocks() -> None:
    fine, coarse = portrait(1), portrait(4)
    assert (fine.shape, coarse.shape, portrait(5).shape) == ((600, 512), (150, 128), (120, 102))
    assert 0 <= fine.min() < fine.max() <= 1
    assert coarse[10, 20] == pytest.approx(fine[40:44, 80:84].mean())


def test_the_observed_pixels_are_a_random_share_that_the_seed_decides() -> None:
    image = np.zeros((30, 40))
    first, again, other = (MaskedImage.draw(image, 0.9, seed) for seed in (0, 0, 1))
    assert int(first.observed.sum()) == 120
    assert np.array_equal(first.observed, again.observed)
    assert not np.array_equal(first.observed, other.observed)


def test_a_fit_sees_the_observed_pixels_in_their_standard_deviations() -> None:
    known = np.array([0.0, 0.4, 0.8, 1.0])
    entries = MaskedImage(SIX, MASK).entries()
    assert [index.tolist() for index in entries.coordinates()] == [[0, 0, 1, 1], [0, 2, 1, 2]]
    np.testing.assert_allclose(entries.values.numpy(), (known - known.mean()) / known.std())
    missing = MaskedImage(SIX, MASK).entries(observed=False)
    np.testing.assert_allclose(missing.values.numpy(), (np.array([0.2, 0.6]) - known.mean()) / known.std())


def test_only_missing_pixels_are_completed_and_only_they_count() -> None:
    problem = MaskedImage(SIX, MASK)
    mean, deviation = SIX[MASK].mean(), SIX[MASK].std()
    wanted = np.array([[0.7, 0.5, 0.1], [1.5, 0.1, 0.1]])  # beyond white
    completed = problem.completed(torch.from_numpy((wanted - mean) / deviation))
    np.testing.assert_allclose(completed, [[0.0, 0.5, 0.4], [1.0, 0.8, 1.0]])
    assert problem.error(completed) == pytest.approx((0.3**2 + 0.4**2) / 2)
    assert psnr(problem.error(completed)) == pytest.approx(-10 * np.log10(0.125))


def test_trials_descend_as_the_page_says() -> None:
    grid = replace(FULL, block=60, seeds=1, missing=(0.3,))
    problem = MaskedImage.draw(portrait(60), 0.3, seed=0)
    two, three = images_runs._trials(grid, {(0.3, 0): problem})
    assert [tuple(factor.shape) for factor in three.factors] == [(8, 8), (8, 8), (10, 8)]
    assert len(two.factors) == 2
    assert three.labels == {"missing": 0.3, "seed": 0, "method": "depth 3"}
    assert (three.options.steps, three.options.train_loss_threshold) == (4_000, 1e-4)
    assert three.spec.options["lr"] == 0.04
    assert [len(part or []) for part in (three.train, three.validation, three.test)] == [53, 3, 24]


def test_the_sizes_at_which_the_claims_were_decided() -> None:
    assert ImagesGrid(4, (0.3, 0.5, 0.7, 0.9), (2, 3), 5, 1e-2, 0.04, 4_000, 50, 0.05, 1e-4, 1e-2) == FULL
    assert ImagesGrid(5, (0.3, 0.9), (2, 3), 2, 1e-2, 0.04, 2_000, 50, 0.05, 1e-4, 1e-2) == QUICK


def test_every_image_is_completed_in_every_way(folder: Path) -> None:
    pytest.importorskip("skimage", reason="scikit-image is not installed: pip install dmf-fast[images]")
    results = run_images(TINY, Reproduction(folder, progress=False))
    assert results.methods == ["depth 2", "depth 3", NUCLEAR_NORM, BIHARMONIC]
    for method in results.methods:
        for missing in TINY.missing:
            problem, picture = results.problems[missing, 0], results.pictures[method, missing]
            assert np.array_equal(picture[problem.observed], problem.image[problem.observed])
            errors = results.of("error", method, missing)
            assert errors.shape == (2,)
            squares = (picture - problem.image)[~problem.observed] ** 2
            assert errors[0] == pytest.approx(squares.mean())
    assert sum(one.steps for one in results.work) == 2 * 2 * 2 * 20


def test_what_has_been_completed_is_not_completed_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_images(TINY, Reproduction(folder, progress=False))
    monkeypatch.setattr(images_runs, "_without_depth", lambda *given: pytest.fail("completed again"))
    again = run_images(TINY, Reproduction(folder, progress=False))
    assert again.runs.equals(first.runs)


def test_without_scikit_image_the_others_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    results = run_images(replace(TINY, seeds=1, missing=(0.2,)), Reproduction(tmp_path, progress=False))
    assert results.methods == ["depth 2", "depth 3", NUCLEAR_NORM]
    first = claims(results)[0]
    assert first.verdict == "not tested"
    assert "pip install 'dmf-fast[images]'" in first.evidence


Errors = Mapping[str, Mapping[float, list[float]]]
"""By method and share of missing pixels, one number a seed."""

STANDARD: Errors = {
    "depth 2": {0.2: [0.02, 0.03], 0.4: [0.05, 0.06]},
    "depth 3": {0.2: [0.04, 0.05], 0.4: [0.03, 0.04]},
    NUCLEAR_NORM: {0.2: [0.03, 0.04], 0.4: [0.04, 0.05]},
    BIHARMONIC: {0.2: [0.01, 0.02], 0.4: [0.002, 0.003]},
}


def results_with(errors: Errors = STANDARD, **deep: list[float]) -> ImagesResults:
    """Results with these errors; effective ranks at depths 3, 2 and of the nuclear norm are 5, 6 and 7."""
    ranks = {"depth 3": [5.0, 5.0], "depth 2": [6.0, 6.0], NUCLEAR_NORM: [7.0, 7.0], BIHARMONIC: [None, None]}
    deep = {"effective_rank": [5.0, 5.0], "stopped_rmse": [0.5, 0.6], "ended_rmse": [0.6, 0.7]} | deep
    rows: list[dict[str, Any]] = [
        {"missing": missing, "seed": seed, "method": method, "error": error}
        | {"effective_rank": ranks[method][seed], "stopped_rmse": None, "ended_rmse": None}
        | ({name: values[seed] for name, values in deep.items()} if method == "depth 3" else {})
        for method, by_share in errors.items()
        for missing, values_of_share in by_share.items()
        for seed, error in enumerate(values_of_share)
    ]
    image = np.linspace(0, 1, 80).reshape(10, 8)
    problems = {
        (missing, seed): MaskedImage.draw(image, missing, seed) for missing in (0.2, 0.4) for seed in (0, 1)
    }
    pictures = {
        (method, missing): np.where(problems[missing, 0].observed, image, np.clip(image - 0.1, 0, 1))
        for method in errors
        for missing in (0.2, 0.4)
    }
    return ImagesResults(TINY, problems, pa.Table.from_pylist(rows), pictures, [])


def verdicts(results: ImagesResults) -> list[str]:
    return [claim.verdict for claim in claims(results)]


def changed(method: str, missing: float, errors: list[float]) -> Errors:
    return STANDARD | {method: {**STANDARD[method], missing: errors}}


ALL = ["reproduced"] * 5


def failed(*places: int) -> list[str]:
    return ["not reproduced" if place in places else verdict for place, verdict in enumerate(ALL)]


def test_all_statements_hold_where_all_rules_do() -> None:
    assert verdicts(results_with()) == ALL
    first = claims(results_with())[0].evidence
    # Of depth 2: decibels of 2 and 3/2, halved, with few missing; of 25 and 20 with many.
    assert first == "Better in 6 of 6 comparisons, by 2.4 to 13.5 dB (medians over the seeds)"


@pytest.mark.parametrize(
    ("method", "missing", "errors", "fail"),
    [
        (BIHARMONIC, 0.4, [0.002, 0.05], [0]),  # in one seed worse than depth 3
        ("depth 3", 0.4, [0.03, 0.055], [1]),  # above the nuclear norm, below depth 2
        ("depth 2", 0.4, [0.05, 0.04], [1]),  # as large as depth 3
        (NUCLEAR_NORM, 0.2, [0.03, 0.05], [2]),
        ("depth 3", 0.2, [0.025, 0.05], [2]),
    ],
)  # fmt: skip
def test_one_seed_decides_against_an_order_of_errors(
    method: str, missing: float, errors: list[float], fail: list[int]
) -> None:
    assert verdicts(results_with(changed(method, missing, errors))) == failed(*fail)


@pytest.mark.parametrize(
    ("deep", "fail"),
    [
        ({"effective_rank": [5.0, 6.5]}, 3),  # above depth 2
        ({"effective_rank": [5.0, 6.0]}, 3),
        ({"ended_rmse": [0.6, 0.6]}, 4),
        ({"stopped_rmse": [0.65, 0.6]}, 4),
    ],
)
def test_one_seed_decides_against_a_lower_rank_and_against_stopping(
    deep: dict[str, list[float]], fail: int
) -> None:
    assert verdicts(results_with(**deep)) == failed(fail)


@pytest.mark.usefixtures("figures")
def test_ratios_and_ranks_are_drawn_by_share() -> None:
    ratios, ranks = panels(images._curves(results_with()))
    drawn = {str(line.get_label()): line.get_xydata() for line in ratios.lines}
    assert list(drawn) == ["depth 2", "depth 3", NUCLEAR_NORM, BIHARMONIC]
    expected = [(20, (psnr(0.04) + psnr(0.05)) / 2), (40, (psnr(0.03) + psnr(0.04)) / 2)]
    np.testing.assert_allclose(np.asarray(drawn["depth 3"]), expected)
    assert {str(line.get_label()): line.get_ydata().tolist() for line in ranks.lines} == {
        "depth 2": [6.0, 6.0], "depth 3": [5.0, 5.0], NUCLEAR_NORM: [7.0, 7.0],
    }  # fmt: skip


@pytest.mark.usefixtures("figures")
def test_every_picture_is_shown_with_its_ratio() -> None:
    results = results_with()
    shown = panels(images._pictures(results, 0.4))
    assert [axes.get_title() for axes in shown] == ["original", "40% missing", *results.methods]
    problem = results.problems[0.4, 0]
    original, observed, two = (np.asarray(axes.images[0].get_array()) for axes in shown[:3])
    assert np.array_equal(original, problem.image)
    assert np.array_equal(observed, np.where(problem.observed, problem.image, 1.0))
    assert np.array_equal(two, results.pictures["depth 2", 0.4])
    ratio = -10 * np.log10(((two - original)[~problem.observed] ** 2).mean())
    assert [axes.get_xlabel() for axes in shown[:3]] == ["", "", f"{ratio:.1f} dB"]


def test_the_table_has_medians_and_extremes() -> None:
    rows = images._table(results_with()).to_pylist()
    assert [(row["missing"], row["method"]) for row in rows[3:5]] == [("20%", BIHARMONIC), ("40%", "depth 2")]
    assert rows[3]["effective rank"] is None
    assert rows[4] == {
        "missing": "40%", "method": "depth 2", "PSNR in dB": pytest.approx((psnr(0.05) + psnr(0.06)) / 2),
        "least": pytest.approx(psnr(0.06)), "largest": pytest.approx(psnr(0.05)), "effective rank": 6.0,
    }  # fmt: skip


def test_the_settings_say_what_was_chosen_where() -> None:
    settings = images._settings(results_with())
    assert "public domain" in settings["image"]
    assert "10 × 8" in settings["image"]
    assert "cameraman" in settings["chosen on"]
