"""The rank-one counterexample: the solutions, descent compared with the flow, and the rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dmf_fast.chain import chain_product
from dmf_fast.convex import ConvexOptions, minimum_nuclear_norm
from dmf_fast.experiments.norms import rank_one
from dmf_fast.experiments.norms.rank_one import (
    End,
    deeper_from_larger_starts,
    greedy,
    least_nuclear_norm_completion,
    nuclear_norm_from_large_starts,
    rank_one_completion,
)
from dmf_fast.training import fit, fit_many


def observed_and_mask() -> tuple[np.ndarray, np.ndarray]:
    """The entries written down once more, NaN where not observed."""
    unknown = np.nan
    matrix = np.array(
        [
            [unknown, unknown, 1, 3],
            [unknown, unknown, 3, unknown],
            [1, 3, unknown, unknown],
            [3, unknown, unknown, unknown],
        ]
    )
    return matrix, ~np.isnan(matrix)


def test_the_observed_entries_are_those_of_the_paper() -> None:
    matrix, mask = observed_and_mask()
    observed = rank_one.observed_entries()
    rows, columns = observed.coordinates()
    assert len(observed) == mask.sum() == 6
    np.testing.assert_array_equal(matrix[rows, columns], observed.values)


def test_both_solutions_complete_the_matrix_and_have_the_traces_that_are_said() -> None:
    matrix, mask = observed_and_mask()
    for solution, rank, trace in (
        (rank_one_completion().numpy(), 1, 2 * 3**2 + 2),
        (least_nuclear_norm_completion().numpy(), 2, 4 * 3),
    ):
        np.testing.assert_array_equal(solution[mask], matrix[mask])
        assert np.linalg.matrix_rank(solution) == rank
        assert np.linalg.eigvalsh(solution).min() > -1e-14  # so that the trace is the nuclear norm
        assert np.trace(solution) == trace


def test_convex_programming_finds_no_completion_of_smaller_nuclear_norm() -> None:
    solution = minimum_nuclear_norm(rank_one.observed_entries(), options=ConvexOptions(tolerance=1e-4))
    assert solution.matrix.nuclear_norm == pytest.approx(12, rel=1e-3)


def flow_of_one_factor(scale: float, time: float) -> NDArray[np.float64]:
    """Return U Uᵀ at a time, of dU/dt = −2 ∇ℓ(U Uᵀ) U with ℓ the sum of squares, by SciPy."""
    from scipy.integrate import solve_ivp

    matrix, mask = observed_and_mask()

    def velocity(_: float, state: NDArray[np.float64]) -> NDArray[np.float64]:
        factor = state.reshape(4, 4)
        residual: NDArray[np.float64] = np.where(mask, factor @ factor.T - np.nan_to_num(matrix), 0.0)
        return np.ravel(-2 * residual @ factor)

    start = np.sqrt(scale) * np.eye(4).ravel()
    ended = solve_ivp(velocity, (0, time), start, method="DOP853", rtol=1e-8, atol=1e-20)
    factor = np.array(ended.y[:, -1], dtype=np.float64).reshape(4, 4)
    return factor @ factor.T


@pytest.mark.parametrize(("scale", "time"), [(0.1, 1.0), (1e-16, 8.0)])
def test_descent_of_two_factors_is_near_the_flow_of_the_symmetric_factorization(
    scale: float, time: float
) -> None:
    trial = rank_one._trial(2, scale)
    factors = [factor.clone() for factor in trial.factors]
    steps = round(time / rank_one.LEARNING_RATES[2])
    fit(factors, trial.train, trial.optimizer, replace(trial.options, steps=steps, progress=False))
    torch.testing.assert_close(factors[0], factors[1].T, rtol=0, atol=1e-14)
    flow = flow_of_one_factor(scale, time)
    assert np.linalg.norm(chain_product(factors).numpy() - flow) < 0.02 * np.linalg.norm(flow)


def test_the_product_of_three_factors_stays_symmetric() -> None:
    trial = rank_one._trial(3, 0.1)
    (one,) = fit_many([trial], progress=False).results
    product = chain_product(one.factors)
    torch.testing.assert_close(product, product.T, rtol=0, atol=1e-13)
    end = End.of(one)
    assert end.scale == 0.1
    assert end.trace == pytest.approx(float(np.trace(product.numpy())))
    assert end.loss <= rank_one.LOSS_THRESHOLD
    gap = product.numpy() - rank_one_completion().numpy()
    assert end.to_rank_one == pytest.approx(np.linalg.norm(gap) / 20)


def test_trials_have_the_settings_that_the_page_says() -> None:
    trial = rank_one._trial(3, 1e-6)
    assert trial.labels == {"depth": 3, "init_scale": 1e-6}
    assert trial.spec.options["lr"] == rank_one.LEARNING_RATES[3]
    assert (trial.options.reduction, trial.options.train_loss_threshold) == ("sum", 1e-20)
    torch.testing.assert_close(
        chain_product(trial.factors), 1e-6 * torch.eye(4, dtype=torch.float64), check_device=False
    )


def end(scale: float, distance: float, trace: float = 20.0, loss: float = 1e-21) -> End:
    return End(scale, loss, trace, 1 + distance, distance, 1.0)


FALLING = [end(1e-1, 0.7, 12.1), end(1e-2, 0.5, 12.2), end(1e-8, 0.2, 15.0), end(1e-30, 1e-3)]


def test_runs_that_approach_rank_one_and_get_there_are_greedy() -> None:
    assert greedy(FALLING).verdict == "reproduced"
    assert greedy([*FALLING[:-1], end(1e-30, 0.01)]).verdict == "reproduced"


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param([*FALLING[:-1], end(1e-30, 0.0101)], id="not near"),
        pytest.param([*FALLING[:-1], end(1e-30, 1e-3, trace=18.0)], id="of small trace"),
        pytest.param([*FALLING[:-1], end(1e-30, 1e-3, loss=1e-19)], id="not fitted"),
        pytest.param([FALLING[0], end(1e-2, 0.7), *FALLING[2:]], id="not falling"),
        pytest.param([*FALLING[:-1], end(1e-30, float("nan"))], id="not finite"),
    ],
)
def test_one_run_that_does_not_refutes_it(wrong: list[End]) -> None:
    assert greedy(wrong).verdict == "not reproduced"


@pytest.mark.parametrize(("trace", "verdict"), [(12.59, "reproduced"), (12.61, "not reproduced")])
def test_usual_starts_are_near_the_least_nuclear_norm_within_a_twentieth(trace: float, verdict: str) -> None:
    runs = [end(1.0, 0.8, 30.0), replace(FALLING[0], trace=trace), *FALLING[1:]]
    assert nuclear_norm_from_large_starts(runs).verdict == verdict


@pytest.mark.parametrize(
    ("deep", "verdict"),
    [
        ([end(1e-4, 0.01), end(1e-6, 1e-5)], "reproduced"),
        ([end(1e-4, 0.02), end(1e-28, 1e-5)], "not reproduced"),  # only a hundred times larger
        ([end(1e-4, 0.02)], "not reproduced"),
        ([end(1e-4, 0.01), end(1e-5, 0.02), end(1e-28, 1e-5)], "not reproduced"),  # not from all smaller ones
        ([end(1e-4, np.nan)], "not reproduced"),
    ],
)
def test_deeper_chains_come_to_rank_one_from_a_thousand_times_larger_starts(
    deep: list[End], verdict: str
) -> None:
    assert deeper_from_larger_starts({2: FALLING, 3: deep}).verdict == verdict


def test_nothing_is_said_of_depth_where_depth_2_never_gets_there() -> None:
    ends = {2: FALLING[:-1], 3: [end(1e-4, 1e-3)]}
    assert deeper_from_larger_starts(ends).verdict == "not reproduced"


def test_nothing_is_said_of_starts_and_depths_that_were_not_run() -> None:
    assert nuclear_norm_from_large_starts([end(1.0, 0.8), end(1e-8, 0.1)]).verdict == "not reproduced"
    assert deeper_from_larger_starts({2: FALLING}).verdict == "not reproduced"


def test_the_figure_draws_traces_and_distances_by_scale() -> None:
    runs = [End(1e-1, 0.0, 12.0, 2.0, 0.7, 0.1), End(1e-8, 0.0, 15.0, 1.5, 0.3, 0.9)]
    figure: Figure = rank_one._plot({2: runs})
    drawn = [[np.asarray(line.get_data()).tolist() for line in axes.lines] for axes in figure.axes]
    x = [1e-1, 1e-8]
    assert [lines[0] for lines in drawn] == [[x, [12.0, 15.0]], [x, [0.7, 0.3]], [x, [0.1, 0.9]]]
    assert [y for _, y in drawn[0][1:]] == [[20.0, 20.0], [12.0, 12.0]]
    assert figure.axes[0].xaxis_inverted()


def test_the_table_has_every_run() -> None:
    table = rank_one._table({2: FALLING, 3: [end(1e-4, 1e-3)]})
    assert table["depth"].to_pylist() == [2, 2, 2, 2, 3]
    assert table["trace"].to_pylist()[0] == "12.1"
