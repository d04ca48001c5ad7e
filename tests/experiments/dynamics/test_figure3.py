"""Dynamics along runs: what is recorded, what is kept, and what figure 3 says about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from dmf_fast import Observations
from dmf_fast.experiments.dynamics import singular_dynamics
from dmf_fast.experiments.dynamics.figure3_claims import claims, moving, velocity_errors
from dmf_fast.experiments.dynamics.singular_dynamics import LEADING, DynamicsProblem, observe_dynamics
from dmf_fast.experiments.ratings.movielens_data import SHAPE, read_some_ratings
from dmf_fast.experiments.reproduction import Reproduction
from dmf_fast.experiments.running.columns import column
from dmf_fast.experiments.synthetic import low_rank_problem
from dmf_fast.training import FitResult, fit

PROBLEM = low_rank_problem(13, 11, 2, 70, seed=0, dtype=torch.float64)
TINY = DynamicsProblem(
    name="tiny",
    train=PROBLEM.train,
    test=PROBLEM.test,
    hidden=12,
    init_scale=0.01,
    learning_rates={1: 0.01, 3: 0.002},
    interval=0.2,
    longest=0.5,
    train_loss_threshold=1e-6,
    has_velocities=True,
)
THEOREM, GAPS, MOVIELENS_GAPS, ALIGNED, MOVIELENS_ALIGNED, BALANCED = range(6)


def end_of(problem: DynamicsProblem, depth: int, steps: int) -> np.ndarray:
    trial = problem.trial(depth)
    fit(trial.factors, trial.train, trial.optimizer, replace(trial.options, steps=steps))
    product = np.eye(problem.train.shape[1])
    for factor in trial.factors:
        product = factor.numpy() @ product
    return product


def entries(observations: Observations) -> list[np.ndarray]:
    return [part.numpy() for part in (observations.rows, observations.columns, observations.values)]


def gradient(product: np.ndarray, train: Observations) -> np.ndarray:
    rows, columns, values = entries(train)
    slopes = np.zeros_like(product)
    slopes[rows, columns] = 2 * (product[rows, columns] - values)
    return slopes


@pytest.mark.parametrize("depth", [1, 3])
def test_states_hold_what_plain_decompositions_say(depth: int, tmp_path: Path) -> None:
    states = observe_dynamics(TINY, Reproduction(tmp_path, progress=False))[depth]

    steps = round(0.5 / TINY.learning_rates[depth])
    assert states["step"][-1].as_py() == steps
    assert column(states, "time") == pytest.approx([0.0, 0.2, 0.4, 0.5])
    product = end_of(TINY, depth, steps)
    left, values, right = np.linalg.svd(product)
    of_all = np.abs(left[:, :11].T @ gradient(product, TINY.train) @ right.T)
    turned = of_all[:LEADING, :LEADING]
    off_diagonal = turned[~np.eye(LEADING, dtype=bool)]
    error = np.sqrt(np.mean([(product[i, j] - b) ** 2 for i, j, b in zip(*entries(TINY.test), strict=True)]))
    shares = values / values.sum()
    assert column(states, "singular_values")[-1] == pytest.approx(values[:LEADING], rel=1e-6)
    assert column(states, "diagonal")[-1] == pytest.approx(turned.diagonal().mean(), rel=1e-6)
    assert column(states, "off_diagonal")[-1] == pytest.approx(off_diagonal.mean(), rel=1e-5)
    assert column(states, "diagonal_of_all")[-1] == pytest.approx(of_all.diagonal().mean(), rel=1e-6)
    off_of_all = of_all[~np.eye(11, dtype=bool)].mean()
    assert column(states, "off_diagonal_of_all")[-1] == pytest.approx(off_of_all, rel=1e-5)
    assert column(states, "test_rmse")[-1] == pytest.approx(error)
    assert column(states, "effective_rank")[-1] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_velocities_are_those_of_the_next_step(tmp_path: Path) -> None:
    states = observe_dynamics(TINY, Reproduction(tmp_path, progress=False))[3]

    step, lr = states["step"][1].as_py(), TINY.learning_rates[3]
    before, after = (
        np.linalg.svd(end_of(TINY, 3, steps), compute_uv=False)[:LEADING] for steps in (step, step + 1)
    )
    assert column(states, "measured")[1] == pytest.approx((after - before) / lr, rel=1e-6, abs=1e-8)
    assert column(states, "middle_values")[1] == pytest.approx((after + before) / 2)


def test_what_has_been_run_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reproduction = Reproduction(tmp_path, progress=False)
    first = observe_dynamics(TINY, reproduction)
    monkeypatch.setattr(singular_dynamics, "fit", None)

    assert observe_dynamics(TINY, reproduction) == first
    with pytest.raises(TypeError):
        observe_dynamics(replace(TINY, init_scale=0.02), reproduction)


def test_an_interrupted_run_is_neither_reported_nor_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> FitResult:
        return FitResult(pa.table({}), None, "interrupted", 0, 0.0, "native")

    monkeypatch.setattr(singular_dynamics, "fit", interrupted)

    with pytest.raises(KeyboardInterrupt):
        observe_dynamics(TINY, Reproduction(tmp_path, progress=False))
    assert not list(tmp_path.rglob("*.parquet"))


def made_up(
    depth: int,
    *,
    rank: float | None = None,
    exponent: float | None = None,
    ratios: Sequence[float] = (0.1,) * 10,
    ratios_of_all: Sequence[float] | None = None,
    imbalance: float = 1e-4,
    train_loss: float = 1e-3,
) -> pa.Table:
    """Return states of singular values that grow by a power of their own, as theorem 3 says by default."""
    values = np.geomspace(1e-3, 50, len(ratios) + 1)[:, None] * np.linspace(1, 0.5, LEADING)
    predicted = depth * values ** (2 - 2 / depth)
    measured = predicted if exponent is None else depth * values**exponent
    rows = len(values)
    return pa.table(
        {
            "train_loss": [1.0] * (rows - 1) + [train_loss],
            "effective_rank": [100.0] * (rows - 1) + [10.0 / depth if rank is None else rank],
            "diagonal": [2.0] * rows,
            "off_diagonal": [1e9, *(2.0 * ratio for ratio in ratios)],  # the start is not looked at
            "diagonal_of_all": [1.0] * rows,
            "off_diagonal_of_all": [1e9, *(ratios if ratios_of_all is None else ratios_of_all)],
            "relative_balancedness": [0.0] * (rows - 1) + [imbalance],
            "middle_values": values.tolist(),
            "measured": (1.001 * measured).tolist(),
            "predicted": predicted.tolist(),
        }
    )


def verdicts(runs: dict[int, pa.Table], movielens: dict[int, pa.Table] | None = None) -> list[str]:
    return [claim.verdict for claim in claims(runs, movielens)]


def test_states_as_in_the_paper_reproduce_every_claim() -> None:
    runs = {depth: made_up(depth) for depth in (1, 2, 3, 4)}

    assert verdicts(runs, runs) == ["reproduced"] * 6


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_velocities_of_another_exponent_do_not_reproduce_the_theorem(depth: int) -> None:
    right = {depth: made_up(depth) for depth in (2, 3, 4)}
    other = right | {depth: made_up(depth, exponent=2 - 2 / (depth + 1))}

    assert verdicts(other)[THEOREM] == "not reproduced"


def test_singular_values_at_rest_do_not_count() -> None:
    run = made_up(2)
    measured, predicted = column(run, "measured"), column(run, "predicted")
    measured[:, -1] = 1e-3 * measured[:, 0]
    predicted[:, -1] = -5.0
    for name, values in (("measured", measured), ("predicted", predicted)):
        run = run.set_column(run.column_names.index(name), name, [values.tolist()])

    assert verdicts({2: run})[THEOREM] == "reproduced"


def test_a_rank_that_does_not_fall_with_depth_is_no_wider_gap() -> None:
    falling = {1: made_up(1), 2: made_up(2)}
    rising = {1: made_up(1), 2: made_up(2, rank=10.0)}

    assert verdicts(rising, falling)[GAPS : MOVIELENS_GAPS + 1] == ["not reproduced", "reproduced"]
    assert verdicts(falling, rising)[GAPS : MOVIELENS_GAPS + 1] == ["reproduced", "not reproduced"]


def test_ranks_at_other_train_losses_do_not_compare() -> None:
    runs = {1: made_up(1), 2: made_up(2, train_loss=2.5e-3)}

    assert verdicts(runs)[GAPS] == "not reproduced"


def test_vectors_align_where_nine_of_ten_states_say_so_at_every_depth() -> None:
    nine, eight = [0.4] * 9 + [0.6], [0.4] * 8 + [0.6] * 2
    aligned = {1: made_up(1, ratios=[5.0]), 2: made_up(2, ratios=nine)}

    assert verdicts(aligned)[ALIGNED] == "reproduced"
    assert verdicts(aligned | {3: made_up(3, ratios=eight)})[ALIGNED] == "not reproduced"
    assert verdicts(aligned, {2: made_up(2, ratios=eight)})[MOVIELENS_ALIGNED] == "not reproduced"


def test_the_share_of_all_vectors_is_given_and_not_decided_on() -> None:
    claim = claims({2: made_up(2, ratios_of_all=[0.4] * 7 + [0.6] * 3)})[ALIGNED]

    assert claim.verdict == "reproduced"
    assert claim.evidence == "depth 2: 100% of the states, median ratio 0.1 (all vectors: 70%, 0.4)"


def test_factors_a_tenth_from_balanced_are_not() -> None:
    runs = {2: made_up(2), 3: made_up(3, imbalance=0.1)}

    assert verdicts(runs)[BALANCED] == "not reproduced"


# A value at which the exponent of a factor more, 2 − 2/(N+1), gives twice as much: σ^(2/N − 2/(N+1)) = 2.
DOUBLED = {2: 2.0**3, 3: 2.0**6, 4: 2.0**10}


def of_velocities(values: list[float], measured: list[float], predicted: list[float]) -> pa.Table:
    """Return two states, of which the first is left out."""
    other = [7.0] * len(values)
    columns = {"middle_values": values, "measured": measured, "predicted": predicted}
    return pa.table({name: [other, numbers] for name, numbers in columns.items()})


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_contrast_has_the_exponent_of_one_factor_more(depth: int) -> None:
    states = of_velocities([DOUBLED[depth], 1.0, 1.0], [10.0, -10.0, 10.0], [10.1, -10.2, 10.3])
    right, wrong = velocity_errors(states, depth)
    assert right == pytest.approx(0.02)
    # Errors of 20.2 in place of 10, and of 2% and 3% at a value of 1, where all exponents agree.
    assert wrong == pytest.approx(0.03)
    only = of_velocities([DOUBLED[depth]], [10.0], [10.0])
    assert velocity_errors(only, depth) == pytest.approx((0.0, 1.0))


def test_values_move_from_a_hundredth_of_the_fastest_on() -> None:
    states = of_velocities([1.0, 2.0, 3.0, 4.0], [-10.0, 0.1, 0.099, -0.1], [1.0, 2.0, 3.0, 4.0])
    values, measured, predicted = moving(states)
    assert values.tolist() == predicted.tolist() == [1.0, 2.0, 4.0]
    assert measured.tolist() == [-10.0, 0.1, -0.1]


@pytest.mark.parametrize(
    ("error", "contrast", "verdict"),
    [
        (0.0099, 8.0, "reproduced"),
        (0.0101, 8.0, "not reproduced"),
        (0.009, 1.07, "not reproduced"),  # the contrast is less than ten times as far off
        (0.0, 8.0, "reproduced"),
    ],
)
def test_theorem_3_holds_within_a_hundredth_and_ten_times_closer_than_the_contrast(
    error: float, contrast: float, verdict: str
) -> None:
    """At depth 2 the contrast predicts σ^(1/3) times as much."""
    run = made_up(2)
    columns = {"middle_values": contrast, "measured": 1.0, "predicted": 1.0 + error}
    for name, number in columns.items():
        run = run.set_column(run.column_names.index(name), name, [[[number] * LEADING] * len(run)])
    assert verdicts({2: run})[THEOREM] == verdict


@pytest.mark.parametrize(("loss", "verdict"), [(2e-3, "reproduced"), (2.01e-3, "not reproduced")])
def test_losses_up_to_twice_each_other_compare(loss: float, verdict: str) -> None:
    assert verdicts({1: made_up(1), 2: made_up(2, train_loss=loss)})[GAPS] == verdict


@pytest.mark.parametrize(("imbalance", "verdict"), [(0.0099, "reproduced"), (0.01, "not reproduced")])
def test_factors_within_a_hundredth_are_balanced(imbalance: float, verdict: str) -> None:
    assert verdicts({1: made_up(1), 2: made_up(2, imbalance=imbalance)})[BALANCED] == verdict


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_state_without_a_number_refutes_what_is_claimed_of_it(depth: int) -> None:
    runs = {depth: made_up(depth) for depth in (1, 2, 3)}
    unknown = runs | {depth: made_up(depth, rank=np.nan, imbalance=np.nan)}
    no_loss = runs | {depth: made_up(depth, train_loss=np.nan)}

    assert verdicts(unknown)[GAPS] == verdicts(unknown)[BALANCED] == "not reproduced"
    assert verdicts(no_loss)[GAPS] == "not reproduced"


def test_half_of_the_diagonal_is_no_longer_aligned() -> None:
    assert verdicts({2: made_up(2, ratios=[0.499] * 10)})[ALIGNED] == "reproduced"
    assert verdicts({2: made_up(2, ratios=[0.499] * 8 + [0.5] * 2)})[ALIGNED] == "not reproduced"


def test_some_ratings_are_drawn_and_normalized(tmp_path: Path) -> None:
    lines = [f"{1 + place}\t{1 + 2 * place}\t{1 + place % 5}\t0" for place in range(100)]
    (tmp_path / "u.data").write_text("\n".join(lines))

    drawn, others = read_some_ratings(tmp_path, 30, seed=0)

    assert drawn.shape == SHAPE
    assert (len(drawn), drawn.dtype) == (30, torch.float32)
    assert torch.equal(drawn.columns, 2 * drawn.rows)
    assert torch.equal(drawn.values, (drawn.rows % 5) / 4)
    assert sorted(drawn.rows.tolist() + others.rows.tolist()) == list(range(100))
    assert torch.equal(others.values, (others.rows % 5) / 4)
    assert not torch.equal(drawn.rows, read_some_ratings(tmp_path, 30, seed=1)[0].rows)
