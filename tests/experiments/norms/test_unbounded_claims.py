"""The rules on the unobserved entry and the rank tell right from wrong; figures draw what was measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from dmf_fast.experiments.norms import unbounded_pictures
from dmf_fast.experiments.norms.unbounded_claims import (
    bounded_entry,
    falling_rank,
    perturbed_entry,
    unbalanced_starts,
    unbounded_entry,
)
from dmf_fast.experiments.norms.unbounded_runs import (
    Curve,
    Observed,
    TwoByTwo,
    least_entry,
    most_effective_rank,
)

LOSS = np.geomspace(0.5, 1e-5, 200)
EPSILON = np.sqrt(3 * LOSS)
POSITIVE = TwoByTwo(Observed(), "balanced", 2, 1, 0)


def curve(
    entry: np.ndarray,
    distance: np.ndarray | None = None,
    rank: np.ndarray | None = None,
    loss: np.ndarray = LOSS,
    problem: TwoByTwo = POSITIVE,
    last_determinant: float = 1e-9,
    last_w_22: float = 0.0,
) -> Curve:
    distance = np.sqrt(3 * loss) / 2 if distance is None else distance
    rank = 1 + 1e-6 * loss if rank is None else rank
    product = np.array([[entry[-1], 1.0], [1.0, last_w_22]])
    return Curve(problem, loss, entry, distance, rank, product, last_determinant, steps=100)


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
        pytest.param(curve(1 / EPSILON, rank=most_effective_rank(LOSS) + 1e-6), id="above its bound"),
        pytest.param(replace(GROWING, loss=1000 * LOSS), id="not fitted"),
        pytest.param(curve(1 / EPSILON, rank=np.full_like(LOSS, np.nan)), id="not finite"),
    ],
)
def test_the_rank_falls_only_where_all_runs_say_so(wrong: Curve) -> None:
    at_the_bound = curve(1 / EPSILON, rank=most_effective_rank(LOSS))
    assert falling_rank([GROWING, at_the_bound]).verdict == "reproduced"
    assert falling_rank([GROWING, wrong]).verdict == "not reproduced"


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
def test_runs_of_positive_determinant_must_come_to_a_loss_of_a_thousandth(least: float, verdict: str) -> None:
    loss = np.append(np.geomspace(0.3, 2 * least, 200), least)
    run = curve(1 / np.sqrt(3 * loss), loss=loss)
    assert unbounded_entry([GROWING, run]).verdict == verdict
    assert falling_rank([GROWING, run]).verdict == verdict


@pytest.mark.parametrize(("rank", "verdict"), [(1.0099, "reproduced"), (1.0101, "not reproduced")])
def test_an_effective_rank_within_a_hundredth_of_one_is_one(rank: float, verdict: str) -> None:
    loss = np.geomspace(0.5, 1e-3, 200)  # where the bound of the effective rank is 1.02
    assert (
        falling_rank([curve(2 / np.sqrt(loss), rank=np.full_like(loss, rank), loss=loss)]).verdict == verdict
    )


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
    resting = curve(np.full(5, 2.0), loss=np.geomspace(0.5, 1e-9, 5))
    assert bounded_entry([resting, curve(entry, loss=loss)]).verdict == verdict


def test_a_run_that_never_comes_to_a_small_loss_is_not_bounded() -> None:
    stuck = curve(np.ones(3), loss=np.array([1.0, 0.9, 0.8]))
    claim = bounded_entry([stuck])
    assert claim.verdict == "not reproduced"
    assert "variation of |W_11| inf to inf" in claim.evidence


def test_a_perturbed_entry_must_be_above_the_bound_of_its_values_from_depth_3_on() -> None:
    observed = Observed(-2.0, 0.5, 0.1)
    bound = least_entry(LOSS, observed)
    runs = {
        (depth, times): curve(times * bound, problem=replace(POSITIVE, observed=observed, depth=depth))
        for depth in (2, 3, 4)
        for times in (0.999, 1.0)
    }
    above = [run for (_, times), run in runs.items() if times == 1.0]
    assert perturbed_entry(above).verdict == "reproduced"
    for depth, verdict in {2: "reproduced", 3: "not reproduced", 4: "not reproduced"}.items():
        assert perturbed_entry([*above, runs[depth, 0.999]]).verdict == verdict
    shallow = perturbed_entry([runs[2, 1.0]])
    assert shallow.verdict == "not reproduced"
    assert "At depth 2, above the bound 1 of 1; in 0 the determinant" in shallow.evidence
    turned = replace(runs[2, 0.999], last_determinant=-1e-9)
    evidence = perturbed_entry([*above, turned]).evidence
    assert "At depth 2, above the bound 1 of 2; in 1 the determinant ends with the other sign." in evidence


UNEQUAL = TwoByTwo(Observed(-2.0, 0.5, 0.1), "balanced", 3, -1, 0)


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ([1.0, 0.01], "reproduced"),
        ([1.0, 0.0101], "not reproduced"),
        ([1.0, 1.0], "not reproduced"),  # stuck where the bound is zero
        ([1.0, np.nan], "not reproduced"),
    ],
)
def test_a_perturbed_run_must_come_to_a_loss_at_which_the_bound_says_something(
    losses: list[float], verdict: str
) -> None:
    for observed in (UNEQUAL.observed, replace(UNEQUAL.observed, w_22=0.0)):
        problem = replace(UNEQUAL, observed=observed)
        run = curve(np.full(2, 99.0), loss=np.array(losses), problem=problem, last_w_22=0.09)
        assert perturbed_entry([run]).verdict == verdict


def test_runs_whose_last_entry_has_the_wrong_sign_are_reported_apart() -> None:
    loss = np.array([0.5, 0.004])
    runs = [
        curve(np.full(2, 99.0), loss=loss, problem=UNEQUAL, last_w_22=last) for last in (-0.01, 0.09, -0.02)
    ]
    runs[0] = replace(runs[0], loss=np.array([0.5, 0.1]))
    claim = perturbed_entry(runs)
    assert claim.verdict == "reproduced"
    assert (
        "in the 1 whose W_22 does not have the wrong sign, losses at the end 0.004 to 0.004" in claim.evidence
    )
    assert (
        "apart from these, 2 whose W_22 has the wrong sign, losses at the end 1.2 to 30 times"
        in claim.evidence
    )
    assert perturbed_entry([runs[0], runs[2]]).verdict == "not reproduced"
    below = replace(runs[2], entry=np.full(2, 0.1))
    assert perturbed_entry([*runs, below]).verdict == "not reproduced"


def test_random_starts_break_the_bound_where_some_fall_below_with_a_negative_determinant() -> None:
    random = replace(POSITIVE, start="random", depth=3)
    kept = curve(1 / EPSILON, problem=random)
    fallen = curve(np.full_like(LOSS, 5.0), problem=random, last_determinant=-1.0)
    claim = unbalanced_starts([kept, fallen], [GROWING])
    assert claim.verdict == "reproduced"
    assert "1 of 2 at depth 3: |W_11| ends at 5 to 5" in claim.evidence
    assert unbalanced_starts([kept], [GROWING]).verdict == "not reproduced"
    still_positive = replace(fallen, last_determinant=1.0)
    assert unbalanced_starts([kept, fallen, still_positive], [GROWING]).verdict == "not reproduced"
    assert unbalanced_starts([kept, fallen], [curve(np.full_like(LOSS, 5.0))]).verdict == "not reproduced"


def axes_of(figure: Figure) -> list[list[tuple[str, list[float], list[float]]]]:
    """Return of every panel the linestyle, x and y of every line that has points."""
    return [
        [
            (
                str(line.get_linestyle()),
                np.asarray(line.get_xdata()).tolist(),
                np.asarray(line.get_ydata()).tolist(),
            )
            for line in axes.lines
            if len(np.asarray(line.get_xdata()))
        ]
        for axes in figure.axes
    ]


def test_norms_are_drawn_against_the_loss_with_their_bounds() -> None:
    loss = np.array([0.3, 0.03, 0.003])
    growing = curve(np.array([1.0, 3.0, 9.0]), loss / 2, 1 + loss, loss)
    resting = replace(growing, problem=replace(POSITIVE, depth=3), entry=loss)
    figure = unbounded_pictures.draw_norms_and_rank([growing], [resting])
    assert [axes.get_ylabel() for axes in figure.axes[:3]] == [
        "|W_11|", "distance to rank 1, σ_2", "effective rank",
    ]  # fmt: skip
    panels = axes_of(figure)
    measured = [[1.0, 3.0, 9.0], (loss / 2).tolist(), (1 + loss).tolist(), loss.tolist()]
    assert [(panel[0][1], panel[0][2]) for panel in panels[:4]] == [(loss.tolist(), one) for one in measured]
    for place, panel in enumerate(panels[:3]):
        ((x, y),) = [line[1:] for line in panel if line[0] == ":"]
        assert (x[0], x[-1]) == pytest.approx((0.003, 0.3))
        bound = (least_entry(x), np.sqrt(3 * np.array(x)), most_effective_rank(x))[place]
        np.testing.assert_allclose(y, bound)


def test_random_and_perturbed_runs_are_drawn_by_depth_with_their_bounds() -> None:
    loss = np.array([0.03, 0.01, 0.003])
    observed = Observed(-2.0, 0.5, 0.1)
    for draw, problem in (
        (unbounded_pictures.draw_random_starts, replace(POSITIVE, start="random")),
        (unbounded_pictures.draw_perturbed, replace(POSITIVE, observed=observed)),
    ):
        runs = [
            curve(
                depth * np.array([1.0, 3.0, 9.0]), loss=loss, problem=replace(problem, depth=depth, seed=seed)
            )
            for depth in (2, 3)
            for seed in (0, 1)
        ]
        figure = draw(runs)
        assert [axes.get_title() for axes in figure.axes] == ["depth 2", "depth 3"]
        for depth, panel in zip((2, 3), axes_of(figure), strict=True):
            *drawn, (style, x, y) = panel
            assert [line[1:] for line in drawn] == [(loss.tolist(), [depth, 3 * depth, 9 * depth])] * 2
            assert style == ":"
            np.testing.assert_allclose(y, least_entry(x, problem.observed))
            assert min(x) == pytest.approx(0.003)


def test_a_long_run_is_drawn_by_few_rows_that_follow_it() -> None:
    loss = np.concatenate([np.full(500, 0.6), np.geomspace(0.6, 1e-6, 500)])
    run = curve(np.minimum(1 / loss, 1e3), loss=loss)
    (line, *_) = axes_of(unbounded_pictures.draw_random_starts([run]))[0]
    assert len(line[1]) <= 60
    assert [line[1][0], line[1][-1]] == pytest.approx([0.6, 1e-6])
    np.testing.assert_allclose(np.interp(-np.log(1e-4), -np.log(line[1]), line[2]), 1e3, rtol=0.1)
