"""Plateaus of the effective rank: how they are measured, the rules, and what is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
import torch

from dmf_fast import Observations
from dmf_fast.chain import chain_product
from dmf_fast.experiments.dynamics import plateaus, plateaus_claims
from dmf_fast.experiments.dynamics.plateaus_measures import (
    Plateau,
    largest_fall,
    over_seeds,
    plateaus_of,
    predicted_length,
)
from dmf_fast.experiments.page.section import Claim
from dmf_fast.training import FitResult, History, Trial, TrialResult
from tests.experiments.pictures import panels

pytestmark = pytest.mark.usefixtures("figures")


def ended(
    ranks: Sequence[float],
    values: Sequence[Sequence[float]] = (),
    *,
    start: str = "gaussian",
    depth: int = 2,
    scale: float = 1e-4,
    seed: int = 0,
) -> TrialResult:
    """Return a run with a row every 10 steps of 0.1."""
    trial = Trial(
        {"start": start, "depth": depth, "init_scale": scale, "seed": seed},
        [torch.eye(2)], Observations([0], [0], [1.0], (2, 2)), partial(torch.optim.SGD, lr=0.1),
    )  # fmt: skip
    columns = {f"singular_value_{place}": column for place, column in enumerate(values, start=1)}
    history = pa.table({"step": range(0, 10 * len(ranks), 10), "effective_rank": ranks, **columns})
    return TrialResult(trial, [], FitResult(History(history), None, "steps", 0, 0.0, "native"))


def test_plateaus_are_measured_between_the_half_ends_of_two_values() -> None:
    run = ended(
        [9.0, 1.01, 1.02, 1.06, 1.04, 1.5, 2.0],
        [[0.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0], [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 4.0], [0.0] * 6 + [1.0]],
        start="identity", depth=3, scale=1e-2, seed=4,
    )  # fmt: skip
    first, second = plateaus_of(run, [1.0, 1.9, 2.6])
    # σ_1 comes to 4 at time 1, σ_2 to 2 at 5⅓; the rank is near 1 from 1 to 2, and at 4 alone.
    assert (first.start, first.depth, first.init_scale, first.seed, first.rank) == ("identity", 3, 1e-2, 4, 1)
    assert first.length == pytest.approx(5 + 1 / 3 - 1)
    assert first.flat == pytest.approx(1 / first.length)
    assert second.rank == 2
    assert second.length == pytest.approx(5.5 - 5 - 1 / 3)
    assert second.flat == 0.0


def test_falls_are_counted_from_the_least_value_on() -> None:
    assert largest_fall(np.array([9.0, 5.0, 1.0, 1.5, 2.0])) == 0.0
    assert largest_fall(np.array([9.0, 1.0, 4.0, 3.9, 5.0])) == pytest.approx(0.025)


def grid(
    length: Callable[[int, int, float], float] = lambda depth, rank, scale: predicted_length(
        rank, scale, depth
    ),
    flat: Callable[[int, float], float] = lambda depth, scale: 1 - scale ** (depth / 8),
    end: Callable[[int, int], float] = lambda depth, seed: 1e9,
) -> list[Plateau]:
    """Return plateaus of both kinds of start, 5 seeds, from scales that depths share in pairs."""
    scales = {1: [1e-4], 2: [1e-2, 1e-4, 1e-6], 3: [1e-2, 1e-3, 1e-4], 4: [1e-2, 1e-3, 1e-4]}
    return [
        Plateau(
            start, depth, scale, seed, rank, end(depth, seed),
            1e-5 if depth == 1 else length(depth, rank, scale) * (1 + seed),
            flat(depth, scale) * (1 - 0.01 * seed),
        )
        for start in ("identity", "gaussian") for depth in scales for scale in scales[depth]
        for seed in (2, 0, 1, 3, 4) for rank in (1, 2, 3)
    ]  # fmt: skip


CLIMBING = [
    ended([5.0, 1.0, 1.9, 2.6], start=start, depth=depth, scale=scale)
    for start in ("identity", "gaussian")
    for depth in (1, 2, 3)
    for scale in (1e-2, 1e-4)
]


def changed(plateau: Plateau, **change: float) -> list[Plateau]:
    return [replace(one, **change) if one == plateau else one for one in grid()]  # type: ignore[arg-type]


def of(depth: int, scale: float) -> Plateau:
    return next(
        one for one in grid() if (one.depth, one.init_scale, one.seed, one.rank) == (depth, scale, 1, 2)
    )


def deep(some: Sequence[Plateau]) -> list[Plateau]:
    return [one for one in some if one.depth >= 2]


def test_runs_as_in_theory_reproduce_every_claim() -> None:
    found = plateaus_claims.claims(CLIMBING, grid())
    assert [claim.verdict for claim in found] == ["reproduced"] * 6, found


@pytest.mark.parametrize(("flat", "verdict"), [(0.1, "reproduced"), (0.099, "not reproduced")])
def test_every_plateau_from_the_smallest_start_is_flat_over_a_tenth(flat: float, verdict: str) -> None:
    for place in ((2, 1e-6), (3, 1e-4)):
        assert plateaus_claims.near_projections(deep(changed(of(*place), flat=flat))).verdict == verdict
    assert plateaus_claims.near_projections(deep(changed(of(2, 1e-4), flat=0.0))).verdict == "reproduced"


@pytest.mark.parametrize(("fall", "verdict"), [(0.0099, "reproduced"), (0.011, "not reproduced")])
def test_ranks_fall_by_a_hundredth_at_most_from_the_smallest_start(fall: float, verdict: str) -> None:
    ranks = [5.0, 1.0, 2.0, 2.0 * (1 - fall), 3.0]
    for start in ("identity", "gaussian"):
        runs = [*CLIMBING, ended(ranks, start=start, scale=1e-4)]
        assert plateaus_claims.ranks_climb(runs).verdict == verdict
    assert plateaus_claims.ranks_climb([*CLIMBING, ended(ranks, scale=1e-2)]).verdict == "reproduced"


@pytest.mark.parametrize(("length", "verdict"), [(1e-3, "reproduced"), (1.1e-3, "not reproduced")])
def test_depth_1_has_no_plateau_to_speak_of(length: float, verdict: str) -> None:
    shallow = [one for one in changed(of(1, 1e-4), length=length) if one.depth == 1]
    assert plateaus_claims.none_at_depth_1(shallow).verdict == verdict


@pytest.mark.parametrize(
    ("times", "verdict"), [(1.099, "reproduced"), (0.901, "reproduced"), (1.11, "not reproduced")]
)
def test_lengths_grow_as_the_closed_form_within_a_tenth(times: float, verdict: str) -> None:
    def length(depth: int, rank: int, scale: float) -> float:
        longer = times if (depth, rank, scale) == (3, 2, 1e-4) else 1.0
        return longer * predicted_length(rank, scale, depth)

    claim: Claim = plateaus_claims.lengths_grow(deep(grid(length)))
    assert claim.verdict == verdict


def test_lengths_may_be_other_ones_as_long_as_they_grow_so() -> None:
    twice = grid(lambda depth, rank, scale: 2 * predicted_length(rank, scale, depth))
    assert plateaus_claims.lengths_grow(deep(twice)).verdict == "reproduced"


@pytest.mark.parametrize(
    ("worst", "verdict", "holds"),
    [(1e-4, "not reproduced", "0.001, 0.01"), (1e-3, "reproduced", "0.0001, 0.01")],
)
def test_plateaus_are_flatter_with_every_factor_from_the_smallest_common_scale(
    worst: float, verdict: str, holds: str
) -> None:
    def flat(depth: int, scale: float) -> float:
        return 0.1 if (depth, scale) == (4, worst) else 1 - scale ** (depth / 8)

    claim = plateaus_claims.flatter_when_deeper(deep(grid(flat=flat)))
    assert claim.verdict == verdict
    assert "depth 3 compared with 2: from 0.0001, 0.01 of 0.0001, 0.01" in claim.evidence
    assert f"depth 4 compared with 3: from {holds} of 0.0001, 0.001, 0.01" in claim.evidence


def test_where_no_plateau_is_flatter_the_evidence_says_none() -> None:
    claim = plateaus_claims.flatter_when_deeper(deep(grid(flat=lambda depth, scale: 0.5)))
    assert claim.verdict == "not reproduced"
    assert "depth 3 compared with 2: from none of 0.0001, 0.01" in claim.evidence


def test_nothing_is_said_of_depths_without_a_common_scale() -> None:
    one_depth = [one for one in grid() if one.depth == 2]
    assert plateaus_claims.flatter_when_deeper(one_depth).verdict == "not reproduced"
    assert plateaus_claims.larger_share_when_deeper(one_depth).verdict == "not reproduced"
    assert plateaus_claims.ranks_climb([]).verdict == "not reproduced"


def test_a_plateau_without_a_number_refutes() -> None:
    nan = float("nan")
    place = of(3, 1e-4)
    for rule, change in (
        (plateaus_claims.near_projections, {"flat": nan}),
        (plateaus_claims.flatter_when_deeper, {"flat": nan}),
        (plateaus_claims.lengths_grow, {"length": nan}),
        (plateaus_claims.larger_share_when_deeper, {"length": nan}),
    ):
        assert rule(deep(changed(place, **change))).verdict == "not reproduced"
    shallow = [one for one in changed(of(1, 1e-4), length=nan) if one.depth == 1]
    assert plateaus_claims.none_at_depth_1(shallow).verdict == "not reproduced"
    runs = [*CLIMBING, ended([5.0, 1.0, nan, 2.6], scale=1e-4)]
    assert plateaus_claims.ranks_climb(runs).verdict == "not reproduced"


@pytest.mark.parametrize(("slow", "verdict"), [(2, "reproduced"), (4, "not reproduced")])
def test_plateaus_take_more_of_the_time_with_every_factor(slow: int, verdict: str) -> None:
    def end(depth: int, seed: int) -> float:
        return (100.0 if depth == slow else 10.0 - depth) * (1 + seed)

    claim = plateaus_claims.larger_share_when_deeper(deep(grid(length=lambda *_: 1.0, end=end)))
    assert claim.verdict == verdict
    assert ("In 10 of 10" in claim.evidence) == (slow == 2)
    assert "depth 3, multiples of the identity, from 0.01: 43%" in claim.evidence


def test_measures_are_grouped_by_depth_and_rank_then_by_falling_scale() -> None:
    groups = over_seeds(grid(), "gaussian", "flat")
    assert list(groups)[:5] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]
    assert list(groups[2, 1]) == [1e-2, 1e-4, 1e-6]
    assert groups[2, 1][1e-4] == pytest.approx([0.9 * (1 - 0.01 * seed) for seed in range(5)])


def test_runs_have_the_settings_of_the_page() -> None:
    settings = plateaus._settings(range(2))
    for start in ("identity", "gaussian"):
        trials = {depth: plateaus._trial(start, depth, 1e-4, seed=3) for depth in plateaus.INIT_SCALES}
        rates = [f"{trial.spec.options['lr']:g} at depth {depth}" for depth, trial in trials.items()]
        assert settings["learning rates"] == ", ".join(rates)
        for depth, trial in trials.items():
            assert trial.options.reduction == "sum"
            assert [tuple(factor.shape) for factor in trial.factors] == [(20, 20)] * depth
            matrix = trial.train.values.reshape(trial.train.shape)
            values = [f"{value:g}" for value in torch.linalg.svdvals(matrix).round(decimals=9) if value]
            assert settings["matrix"] == (
                f"symmetric, 20 × 20, with singular values {', '.join(values)}; all entries observed"
            )
    identity = plateaus._trial("identity", 4, 1e-4, seed=0).factors
    assert torch.allclose(chain_product(identity), 1e-4 * torch.eye(20, dtype=torch.float64))


def test_lengths_at_depth_2_are_those_of_two_logistic_curves() -> None:
    times = [np.log(value / 1e-3 - 1) / (4 * value) for value in (4.0, 2.0)]
    assert predicted_length(2, 1e-3, 2) == pytest.approx(times[1] - times[0])


def test_ranks_are_drawn_by_start_and_depth() -> None:
    figure = panels(plateaus._plot_ranks([*CLIMBING, ended([5.0, 1.0, 7.0], seed=1)]))
    assert [axes.get_title() for axes in figure] == [f"depth {depth}" for depth in (1, 2, 3, 4)] * 2
    lines = [line for line in figure[1].lines if len(np.asarray(line.get_xdata())) == 3]
    assert [np.asarray(line.get_ydata()).tolist() for line in lines] == [[1.0, 1.9, 2.6]] * 2
    assert np.asarray(lines[0].get_xdata()).tolist() == [1.0, 2.0, 3.0]
    dotted = [
        float(np.asarray(line.get_ydata())[0]) for line in figure[1].lines if line.get_linestyle() == ":"
    ]
    assert dotted[-4:] == plateaus.projected_ranks()


def test_lengths_are_drawn_by_scale_with_those_of_the_closed_form() -> None:
    first, *_ = panels(plateaus._plot_durations(grid()))
    drawn = {str(line.get_label()): line for line in first.lines}
    x, y = (np.asarray(part).tolist() for part in drawn["depth 3"].get_data())
    assert x == [1e-2, 1e-3, 1e-4]
    assert y == pytest.approx([3 * predicted_length(1, scale, 3) for scale in x])  # the median seed
    dotted = [np.asarray(line.get_ydata()) for line in first.lines if line.get_color() == "k"]
    np.testing.assert_allclose(3 * dotted[1], y)


def test_the_table_has_medians_from_the_two_smallest_scales() -> None:
    rows = plateaus._table(grid()).to_pylist()
    assert len(rows) == 2 * 3 * 3 * 2
    assert rows[0] == {
        "start": "identity", "depth": 2, "L": 1, "scale": 1e-6,
        "length": pytest.approx(3 * predicted_length(1, 1e-6, 2)),
        "of the closed form": pytest.approx(predicted_length(1, 1e-6, 2)),
        "flat part": pytest.approx(0.98 * (1 - 1e-6 ** 0.25)),
    }  # fmt: skip
