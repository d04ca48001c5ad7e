"""Whole paths of singular values: runs, predictions, rules, and what is drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from dmf_fast.chain import chain_product
from dmf_fast.experiments.dynamics import trajectories, trajectories_claims, trajectories_pictures
from dmf_fast.experiments.dynamics import trajectories_runs as runs
from dmf_fast.experiments.dynamics.trajectories_runs import RANK, SingularValuePaths
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.training import FitOptions, FitResult, fit_many
from tests.experiments.pictures import curves, legends, panels

pytestmark = pytest.mark.usefixtures("figures")


def paths(
    depth: int, error: float = 0.001, contrast: float = 0.5, *, seed: int = 0, second: float = 0.5
) -> SingularValuePaths:
    """Return paths to 2 and 1, of which the second is at ``second`` when the first is at 1."""
    measured = np.array([[0.0, 0.0], [1.0, second], [2.0, 1.0]])
    off = np.array([[0.0, 0.0], [2.0 * error, 0.0], [0.0, 0.0]])
    other = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, contrast]])
    times = np.array([0.0, 1.0, 2.0])
    return SingularValuePaths(depth, seed, times, measured, measured + off, measured + other, 20)


def test_errors_are_the_largest_over_the_value_at_the_end() -> None:
    one = paths(3, error=0.03, contrast=-0.25)
    assert one.error() == pytest.approx(0.03)
    assert one.contrast_error() == pytest.approx(0.25)


GAPS = {1: 0.5, 2: 0.1, 3: 0.01, 4: 0.001}
OBSERVED = [paths(depth, second=gap) for depth, gap in GAPS.items()]


def test_paths_near_the_prediction_reproduce_every_claim() -> None:
    followed = [paths(depth, seed=seed) for depth in GAPS for seed in (0, 1)]
    assert [claim.verdict for claim in trajectories_claims.claims(OBSERVED, followed)] == ["reproduced"] * 3


@pytest.mark.parametrize(
    ("error", "contrast", "verdict"),
    [
        (0.0099, 0.2, "reproduced"),
        (0.0101, 0.2, "not reproduced"),
        (0.0099, 0.098, "not reproduced"),
        (0.001, 0.0099, "not reproduced"),
        (np.nan, 0.2, "not reproduced"),
        (0.001, np.nan, "not reproduced"),
    ],
)
def test_closed_forms_hold_within_a_hundredth_and_ten_times_closer(
    error: float, contrast: float, verdict: str
) -> None:
    observed = [*OBSERVED, paths(5, error, contrast)]
    assert trajectories_claims.closed_form_holds(observed).verdict == verdict
    assert trajectories_claims.closed_form_holds([]).verdict == "not reproduced"


@pytest.mark.parametrize(("error", "verdict"), [(0.0499, "reproduced"), (0.0501, "not reproduced")])
def test_followed_paths_hold_within_a_twentieth_in_every_seed(error: float, verdict: str) -> None:
    followed = [paths(2), paths(2, error, contrast=np.inf, seed=1)]
    assert trajectories_claims.whole_paths_hold(followed).verdict == verdict


def test_gaps_are_taken_when_the_first_value_is_half_way() -> None:
    assert trajectories_claims.gap_at_half(paths(2, second=0.1), (2.0, 1.0)) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [
        ({1: 0.524, 2: 0.1, 3: 0.01}, "reproduced"),
        ({1: 0.526, 2: 0.1, 3: 0.01}, "not reproduced"),  # shares at depth 1 that differ by more than 5%
        ({1: 0.474, 2: 0.1, 3: 0.01}, "not reproduced"),
        ({1: 0.5, 2: 0.1, 3: 0.1}, "not reproduced"),  # depth 3 as wide as depth 2
        ({1: 0.5, 2: 0.1, 3: np.nan}, "not reproduced"),
    ],
)
def test_gaps_must_widen_with_every_factor(gaps: dict[int, float], verdict: str) -> None:
    observed = [paths(depth, second=gap) for depth, gap in gaps.items()]
    assert trajectories_claims.gaps_widen(observed).verdict == verdict


@pytest.mark.parametrize("depth", [1, 3])
def test_followed_paths_integrate_what_moves_the_values(depth: int) -> None:
    """Slopes of −1 at all times, whose path is known, and a measured path of any course."""
    measured = np.array([[1.0] * RANK, [2.0] * RANK, [5.0] * RANK])
    steps = np.array([0, 1000, 2000])
    states = pa.table({
        "step": steps,
        "values": measured.tolist(),
        "velocities": (depth * measured ** (2 - 2 / depth)).tolist(),
    })  # fmt: skip
    found = runs.followed_paths(runs.followed_trial(depth, seed=4), states)
    times = steps * runs.RATES[depth]
    assert (found.depth, found.seed, found.steps) == (depth, 4, 2000)
    assert found.times.tolist() == times.tolist()
    assert found.measured.tolist() == measured.tolist()
    expected = 1 + times if depth == 1 else (1 - times) ** -3.0
    np.testing.assert_allclose(found.predicted, np.tile(expected[:, None], RANK))
    contrast = np.exp(2 * times) if depth == 1 else (1 - 2 * times) ** -2.0
    np.testing.assert_allclose(found.contrast, np.tile(contrast[:, None], RANK))


def test_states_hold_values_and_the_velocities_of_theorem_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = runs.followed_trial(2, seed=1)
    trial = replace(trial, options=replace(trial.options, steps=60))
    reproduction = Reproduction(tmp_path, progress=False)
    states = runs.follow(trial, reproduction)
    assert states["step"].to_pylist() == [0, 25, 50, 60]

    (ended,) = fit_many([trial], progress=False).results
    second, first = (factor.numpy() for factor in ended.factors[::-1])
    left, values, right = np.linalg.svd(second @ first)
    slopes = np.zeros((20, 20))
    rows, columns = trial.train.rows.numpy(), trial.train.columns.numpy()
    slopes[rows, columns] = 2 * ((second @ first)[rows, columns] - trial.train.values.numpy())
    velocities = -2 * values[:RANK] * (left.T @ slopes @ right.T).diagonal()[:RANK]
    np.testing.assert_allclose(states["values"][-1].as_py(), values[:RANK], rtol=1e-9)
    np.testing.assert_allclose(states["velocities"][-1].as_py(), velocities, rtol=1e-7)

    monkeypatch.setattr(runs, "fit", None)
    assert runs.follow(trial, reproduction) == states


@pytest.mark.parametrize("progress", [True, False, None])
def test_bars_are_shown_as_asked_for_and_change_no_key(
    progress: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[FitOptions] = []

    def note(
        factors: object, train: object, optimizer: object, options: FitOptions, **_: object
    ) -> FitResult:
        asked.append(options)
        return FitResult(pa.table({}), None, "steps", 0, 0.0, "native")

    monkeypatch.setattr(runs, "fit", note)
    trial = runs.followed_trial(2, seed=0)
    runs.follow(trial, Reproduction(tmp_path, progress=progress))
    assert asked == [replace(trial.options, progress=progress)]
    assert [path.name for path in (tmp_path / "trajectories").iterdir()] == [trial.key()]
    assert replace(trial, options=asked[0]).key() == trial.key()


def test_an_interrupted_run_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = FitResult(pa.table({}), None, "interrupted", 0, 0.0, "native")
    monkeypatch.setattr(runs, "fit", lambda *_, **__: ended)
    with pytest.raises(KeyboardInterrupt):
        runs.follow(runs.followed_trial(2, seed=0), Reproduction(tmp_path, progress=False))
    assert not any((tmp_path / "trajectories").glob("*"))


def test_observed_runs_keep_to_their_closed_form() -> None:
    trial = runs.observed_trial(1)
    target = trial.train.values.reshape(10, 10)
    expected = [2.0, 1.0] + [0.0] * 8
    np.testing.assert_allclose(torch.linalg.eigvalsh(target).flip(0), expected, atol=1e-12)
    assert torch.equal(chain_product(trial.factors), 1e-3 * torch.eye(10, dtype=torch.float64))
    short = replace(trial, options=replace(trial.options, steps=1000))
    (found,) = runs.observed_paths(fit_many([short], progress=False).results)
    assert (found.depth, found.steps) == (1, 1000)
    assert found.times[-1] == pytest.approx(1.0)
    np.testing.assert_allclose(found.measured[-1], [2, 1] - np.array([1.999, 0.999]) * np.exp(-2), rtol=1e-3)
    np.testing.assert_allclose(found.predicted, found.measured, atol=2e-3)


def test_runs_have_the_settings_of_the_page() -> None:
    settings = trajectories._settings(range(2))
    observed = {depth: runs.observed_trial(depth) for depth in runs.OBSERVED_RATES}
    followed = {depth: runs.followed_trial(depth, seed=2) for depth in runs.RATES}
    for text, trials in zip(settings.values(), (observed, followed), strict=False):
        rates = [f"{trial.spec.options['lr']:g} at depth {depth}" for depth, trial in trials.items()]
        assert f"learning rates {', '.join(rates)}" in text
        assert [len(trial.factors) for trial in trials.values()] == list(trials)
        assert {trial.options.reduction for trial in trials.values()} == {"sum"}

    for trial in observed.values():
        dim, _ = trial.train.shape
        values = torch.linalg.svdvals(trial.train.values.reshape(dim, dim)).round(decimals=9)
        said = " and ".join(f"{value:g}" for value in values if value)
        assert settings["everything observed"].startswith(f"symmetric {dim} × {dim}, singular values {said};")
        scale = float(chain_product(trial.factors)[0, 0])
        assert f"start {scale:g} times the identity" in settings["everything observed"]

    for trial in followed.values():
        rows, columns = trial.train.shape
        text = settings["a part observed"]
        assert text.startswith(f"{rows} × {columns}, rank {RANK}, {len(trial.train)} entries;")
        assert text.endswith(f"until a mean train loss of {trial.options.train_loss_threshold:g}")
        values = torch.linalg.svdvals(chain_product(trial.factors))
        assert 1 < values[0] / runs.SCALE < 10  # about the scale
        assert values[0] > 2 * values[10]  # apart, so that their vectors are determined
    assert f"balanced start of {runs.SCALE:g};" in settings["a part observed"]


def test_pictures_have_predicted_lines_and_measured_dots() -> None:
    plane, first, second = panels(trajectories_pictures.draw_observed(OBSERVED[1:3]))
    assert legends([plane, first, second]) == [0]
    found = curves(plane)
    assert found["depth 2"] == ([0.0, 1.002, 2.0], [0.0, 0.1, 1.0])
    dots = [line for line in second.lines if line.get_marker() == "."]
    assert [np.asarray(line.get_ydata()).tolist() for line in dots] == [[0.0, 0.1, 1.0], [0.0, 0.01, 1.0]]

    figure = panels(trajectories_pictures.draw_followed(OBSERVED[:2]))
    assert [axes.get_title() for axes in figure] == ["depth 1", "depth 2"]
    assert curves(figure[1])["σ_2"] == ([0.0, 1.0, 2.0], [0.0, 0.1, 1.0])
    dashed = [line for line in figure[1].lines if line.get_linestyle() == "--"]
    assert np.asarray(dashed[1].get_ydata()).tolist() == [0.0, 0.1, 1.5]


def test_the_tables_have_the_largest_errors_of_every_depth() -> None:
    rows = trajectories._table([paths(2), paths(2, 0.02, seed=1), paths(3)]).to_pylist()
    assert [row["depth"] for row in rows] == [2, 3]
    assert rows[0]["largest error"] == pytest.approx(0.02)
    assert rows[1]["with the theorem of one factor more"] == pytest.approx(0.5)
    (row,) = trajectories._table([paths(2, second=0.1)], (2.0, 1.0)).to_pylist()
    assert row["gap"] == pytest.approx(0.2)
