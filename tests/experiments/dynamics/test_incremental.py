"""Incremental learning in sensing: descent, distances, rules, and what is drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dmf_fast.experiments.dynamics import incremental, incremental_claims, incremental_runs
from dmf_fast.experiments.dynamics.incremental_runs import (
    DIM,
    EVERY,
    INIT_SCALES,
    IncrementalRun,
    SensingProblem,
)
from dmf_fast.experiments.page.section import Claim
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.sensing import Measurements, gaussian_measurements
from tests.experiments.pictures import curves, legends, panels

pytestmark = pytest.mark.usefixtures("figures")


def run(width: int, scale: float, seed: int, least: list[float] | None = None) -> IncrementalRun:
    """Return a run that is nearest to W_1, W_2, W_3 in its rows 1, 2 and 3, where it remains."""
    near = [rank * scale**0.1 / 10 for rank in (1, 2, 3)] if least is None else least
    distances = np.array([[1.0] * 3, [near[0], 0.5, 0.8], [0.7, near[1], 0.6], [0.8, 0.7, near[2]]])
    return IncrementalRun(width, scale, seed, np.array([0.1, 0.01, 1e-3, 1e-4]) * (1 + seed), distances)


def problem(seed: int) -> SensingProblem:
    wide = [run(DIM, scale, seed) for scale in INIT_SCALES[:-1]]
    runs = [*wide, run(DIM, INIT_SCALES[-1], seed, [0.01, 0.02, 1e-4])]
    runs += [run(width, INIT_SCALES[-1], seed, [0.02, 0.03, 0.9]) for width in (1, 2, 3)]
    return SensingProblem(seed, runs, np.array([1e-8, 1e-9, 0.0]), np.array([0.2, 0.1, 1e-15]))


PROBLEMS = [problem(seed) for seed in range(5)]


def with_run(place: int, changed: IncrementalRun) -> list[SensingProblem]:
    """Return the problems, of which the last has another run."""
    runs = list(PROBLEMS[-1].runs)
    runs[place] = changed
    return [*PROBLEMS[:-1], replace(PROBLEMS[-1], runs=runs)]


LAST = len(INIT_SCALES) - 1


def test_perfect_runs_reproduce_every_claim() -> None:
    found = incremental_claims.claims(PROBLEMS)
    assert [claim.verdict for claim in found] == ["reproduced"] * 5, found


@pytest.mark.parametrize(("least", "verdict"), [(0.0499, "reproduced"), (0.0501, "not reproduced")])
def test_runs_pass_by_within_a_twentieth(least: float, verdict: str) -> None:
    for near in ([least, 0.02, 1e-4], [0.01, least, 1e-4], [0.01, 0.02, least]):
        changed = with_run(LAST, run(DIM, INIT_SCALES[-1], 4, near))
        assert incremental_claims.passes_by(changed).verdict == verdict
    larger = with_run(LAST - 1, run(DIM, INIT_SCALES[-2], 4, [0.9, 0.9, 0.9]))
    assert incremental_claims.passes_by(larger).verdict == "reproduced"


def test_solutions_out_of_order_refute() -> None:
    backwards = replace(PROBLEMS[-1].wide()[-1], distances=PROBLEMS[-1].wide()[-1].distances[::-1])
    assert incremental_claims.passes_by(with_run(LAST, backwards)).verdict == "not reproduced"


@pytest.mark.parametrize(("least", "verdict"), [(0.0499, "reproduced"), (0.0501, "not reproduced")])
def test_narrow_runs_pass_by_what_is_below_their_width(least: float, verdict: str) -> None:
    for place, near in ((2, [least, 0.9, 0.9]), (3, [0.01, least, 0.9])):
        changed = with_run(LAST + place, run(place, INIT_SCALES[-1], 4, near))
        assert incremental_claims.passes_by_when_narrow(changed).verdict == verdict
    own = with_run(LAST + 1, run(1, INIT_SCALES[-1], 4, [0.9, 0.9, 0.9]))
    assert incremental_claims.passes_by_when_narrow(own).verdict == "reproduced"


@pytest.mark.parametrize(("gap", "verdict"), [(0.9e-6, "reproduced"), (1.1e-6, "not reproduced")])
def test_solutions_must_not_depend_on_the_start(gap: float, verdict: str) -> None:
    changed = [*PROBLEMS[:-1], replace(PROBLEMS[-1], disagreement=np.array([0.0, gap, 0.0]))]
    assert incremental_claims.passes_by_when_narrow(changed).verdict == verdict


def decide(rule: str, *, scale: int, least: list[float]) -> Claim:
    """Decide on problems of which all seeds have another run at a scale."""
    others = [
        replace(one, runs=[run(DIM, INIT_SCALES[scale], one.seed, least) if place == scale else old
                           for place, old in enumerate(one.runs)])
        for one in PROBLEMS
    ]  # fmt: skip
    claim: Claim = getattr(incremental_claims, rule)(others)
    return claim


def test_distances_fall_with_every_scale_for_every_rank_below_the_full_one() -> None:
    assert decide("closer_from_smaller", scale=1, least=[0.9, 0.01, 0.1]).verdict == "not reproduced"
    assert decide("closer_from_smaller", scale=1, least=[0.039, 0.9, 0.1]).verdict == "not reproduced"
    assert decide("closer_from_smaller", scale=1, least=[0.039, 0.078, 0.9]).verdict == "reproduced"


def test_runs_must_be_nearer_than_the_truncated_matrix() -> None:
    assert decide("not_the_truncation", scale=LAST, least=[0.19, 0.09, 0.9]).verdict == "reproduced"
    assert decide("not_the_truncation", scale=LAST, least=[0.21, 0.09, 0.9]).verdict == "not reproduced"
    assert decide("not_the_truncation", scale=LAST, least=[0.19, 0.11, 0.9]).verdict == "not reproduced"


@pytest.mark.parametrize(("end", "verdict"), [(0.0099, "reproduced"), (0.0101, "not reproduced")])
def test_the_matrix_is_recovered_within_a_hundredth(end: float, verdict: str) -> None:
    assert decide("recovers", scale=LAST, least=[0.01, 0.01, end]).verdict == verdict


def test_descent_makes_the_steps_of_plain_matrix_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incremental_runs, "STEPS", 7)
    truth = incremental_runs.measured_matrix(2)
    measurements = gaussian_measurements(truth, 50, seed=2)
    starts = torch.stack([incremental_runs._start(width, 1e-2, seed=3) for width in (2, DIM)])
    assert (starts[0, :, 2:] == 0).all()
    losses, products = incremental_runs.descend(starts, measurements)
    assert [tuple(losses.shape), tuple(products.shape)] == [(2, 2), (2, 2, DIM, DIM)]

    for place, factor in enumerate(starts.numpy().copy()):
        for step in range(6):
            residuals = (
                np.einsum("kij,ij", measurements.matrices, factor @ factor.T) - measurements.values.numpy()
            )
            if step == EVERY:
                assert float(losses[1, place]) == pytest.approx(np.mean(residuals**2))
                np.testing.assert_allclose(products[1, place], factor @ factor.T, rtol=1e-9, atol=1e-14)
            slopes = 2 / 50 * np.einsum("k,kij->ij", residuals, measurements.matrices)
            factor = factor - incremental_runs.LEARNING_RATE * (slopes + slopes.T) @ factor


def test_a_problem_holds_distances_to_where_narrow_runs_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incremental_runs, "STEPS", 40)
    reproduction = Reproduction(tmp_path, progress=False)
    found = incremental_runs.sensing_problem(1, reproduction)
    assert [(one.width, one.scale) for one in found.wide()] == [(DIM, scale) for scale in INIT_SCALES]
    assert [(one.width, one.scale) for one in found.narrow()] == [
        (width, INIT_SCALES[-1]) for width in (1, 2, 3)
    ]

    measurements = gaussian_measurements(incremental_runs.measured_matrix(1), 300, seed=1)
    starts = [incremental_runs._start(DIM, 1e-2, 1), incremental_runs._start(2, INIT_SCALES[-1], 1)]
    starts.append(incremental_runs._start(2, 1e-2, 2))
    losses, products = incremental_runs.descend(torch.stack(starts), measurements)
    wide, narrow, other = products.transpose(0, 1).numpy()
    solution = narrow[-1]
    np.testing.assert_allclose(found.runs[0].losses, losses[:, 0], rtol=1e-9)
    expected = np.linalg.norm(wide - solution, axis=(1, 2)) / np.linalg.norm(solution)
    np.testing.assert_allclose(found.runs[0].distances[:, 1], expected, rtol=1e-9)
    gap = np.linalg.norm(other[-1] - solution) / np.linalg.norm(solution)
    assert found.disagreement[1] == pytest.approx(gap)
    assert found.runs[0].nearest(2) == EVERY * int(expected.argmin())
    left, values, right = np.linalg.svd(incremental_runs.measured_matrix(1).numpy())
    np.testing.assert_allclose(values[:4], [8, 4, 2, 0], atol=1e-12)
    truncated = left[:, :2] * values[:2] @ right[:2]
    assert found.truncation[1] == pytest.approx(
        np.linalg.norm(truncated - solution) / np.linalg.norm(solution)
    )

    monkeypatch.setattr(incremental_runs, "descend", None)
    again = incremental_runs.sensing_problem(1, reproduction)
    np.testing.assert_array_equal(again.runs[0].distances, found.runs[0].distances)


@pytest.mark.parametrize(
    ("rule", "near"),
    [
        ("passes_by", [np.nan, 0.02, 1e-4]),
        ("closer_from_smaller", [0.01, np.nan, 1e-4]),
        ("not_the_truncation", [0.01, np.nan, 1e-4]),
        ("recovers", [0.01, 0.02, np.nan]),
    ],
)
def test_a_run_without_a_number_refutes(rule: str, near: list[float]) -> None:
    changed = with_run(LAST, run(DIM, INIT_SCALES[-1], 4, near))
    assert getattr(incremental_claims, rule)(changed).verdict == "not reproduced"


def test_a_narrow_run_without_a_number_refutes() -> None:
    changed = with_run(LAST + 2, run(2, INIT_SCALES[-1], 4, [np.nan, 0.9, 0.9]))
    assert incremental_claims.passes_by_when_narrow(changed).verdict == "not reproduced"
    changed = [*PROBLEMS[:-1], replace(PROBLEMS[-1], disagreement=np.array([0.0, np.nan, 0.0]))]
    assert incremental_claims.passes_by_when_narrow(changed).verdict == "not reproduced"


def test_what_is_drawn_was_measured() -> None:
    distances, losses, least = panels(incremental._plot(PROBLEMS))
    assert legends([distances, losses, least]) == [0, 1, 2]
    assert curves(distances)["to W_2"] == ([0, 10], [1.0, 0.02])  # every second row
    assert curves(losses)["from 0.01"] == ([0, 10], [0.1, 1e-3])
    x, y = curves(least)["W_2"]
    assert x == list(INIT_SCALES)
    assert y == pytest.approx([0.2 * scale**0.1 for scale in INIT_SCALES[:-1]] + [0.02])
    dotted = [np.asarray(line.get_ydata()).tolist() for line in least.lines if line.get_linestyle() == ":"]
    assert dotted == [[0.2, 0.2], [0.1, 0.1]]


def test_the_table_has_medians_over_the_seeds() -> None:
    last = incremental._table(PROBLEMS).to_pylist()[-1]
    assert last == {
        "scale": 1e-10, "least distance to W_1": 0.01, "least distance to W_2": 0.02,
        "least distance to W_3": 1e-4, "nearest to W_1 at step": 5.0, "nearest to W_2 at step": 10.0,
        "nearest to W_3 at step": 15.0,
    }  # fmt: skip


def test_runs_have_the_settings_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.Tensor, Measurements]] = []

    def note(starts: torch.Tensor, measurements: Measurements) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append((starts, measurements))
        return torch.ones(2, len(starts)), (starts @ starts.mT).expand(2, -1, -1, -1)

    monkeypatch.setattr(incremental_runs, "descend", note)
    found = incremental_runs.sensing_problem(1, Reproduction(tmp_path, progress=False))
    settings = incremental._settings(range(2))
    ((starts, measurements),) = seen
    assert settings["measurements"] == f"{len(measurements)}, independent Gaussian matrices"
    assert settings["seeds"].startswith("2,")
    eigenvalues = torch.linalg.eigvalsh(incremental_runs.measured_matrix(1)).flip(0).round(decimals=9)
    values = ", ".join(f"{value:g}" for value in eigenvalues if value)
    assert settings["matrix"] == f"{len(eigenvalues)} × {len(eigenvalues)}, eigenvalues {values}"
    for start, one in zip(starts, found.wide(), strict=False):
        largest = float(torch.linalg.svdvals(start @ start.T)[0])
        assert 1 < largest / one.scale < 10  # about the scale
