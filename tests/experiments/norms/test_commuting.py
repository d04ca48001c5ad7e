"""Commuting measurements: flows are those of factors, and the rules tell right from wrong."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.optimize import root

from dmf_fast.convex.sensing import minimum_nuclear_norm_sensing
from dmf_fast.dynamics import end_to_end_velocity
from dmf_fast.experiments.norms import commuting
from dmf_fast.experiments.norms.commuting_claims import (
    POWERS,
    SHARES,
    least_nuclear_norm,
    lower_rank_off_the_basis,
    no_schatten_minimum,
    not_without_commuting,
    schatten_ratios,
)
from dmf_fast.experiments.norms.commuting_flows import (
    LOSS_THRESHOLD,
    MEASURED,
    SIZE,
    PositiveSensing,
    diagonal_flow,
    least_trace,
    near_identity,
    product_flow,
    spread_off_diagonal,
)
from dmf_fast.experiments.norms.commuting_pictures import draw_commuting
from dmf_fast.sensing import Measurements, sensing_loss

COMMUTING = PositiveSensing.draw(0, commuting=True)


@pytest.mark.parametrize("commute", [True, False])
def test_measurements_are_positive_semidefinite_and_commute_where_asked(commute: bool) -> None:
    problem = PositiveSensing.draw(3, commuting=commute)
    matrices = problem.measurements.matrices.numpy()
    assert matrices.shape == (MEASURED, SIZE, SIZE)
    np.testing.assert_allclose(np.linalg.eigvalsh(matrices), np.sort(problem.eigenvalues), atol=1e-12)
    assert (problem.eigenvalues >= 0).all()
    product = matrices[0] @ matrices[1]
    assert np.allclose(product, product.T) == commute
    assert (problem.measurements.values > 0).all()


def test_the_least_trace_fits_and_is_the_least_nuclear_norm_of_all_matrices_here() -> None:
    for seed in range(3):
        problem = PositiveSensing.draw(seed, commuting=True)
        found = least_trace(problem)
        assert (found >= 0).all()
        assert (found > 1e-9).sum() == MEASURED  # a corner of the polytope
        assert float(sensing_loss(torch.diag(torch.from_numpy(found)), problem.measurements)) < 1e-20
        solved = minimum_nuclear_norm_sensing(problem.measurements)
        assert solved.lower_bound <= found.sum() * (1 + 1e-9)
        assert found.sum() == pytest.approx(solved.nuclear_norm, rel=1e-5)


def in_closed_form(problem: PositiveSensing, depth: int, scale: float) -> np.ndarray:
    """Return the eigenvalues that fit among those of the flow: ``w^(2−N) − scale^(2−N)`` in the span of X_k.

    At depth 2 that is ``log(w / scale)``.
    """
    seen, values = problem.eigenvalues, problem.measurements.values.numpy()

    def eigenvalues(multipliers: np.ndarray) -> np.ndarray:
        moved = multipliers @ seen
        if depth == 2:
            return np.asarray(scale**2 * np.exp(2 * moved))
        return np.asarray((scale ** (2 - depth) - (depth - 2) * moved) ** (depth / (2 - depth)))

    solved = root(lambda multipliers: seen @ eigenvalues(multipliers) - values, np.zeros(MEASURED), tol=1e-12)
    assert solved.success
    return eigenvalues(solved.x)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_flow_ends_where_its_closed_form_fits(depth: int) -> None:
    for seed in range(3):
        problem = PositiveSensing.draw(seed, commuting=True)
        expected = in_closed_form(problem, depth, 0.6)
        np.testing.assert_allclose(diagonal_flow(problem, depth, 0.6), expected, atol=1e-4)


def test_at_depth_1_the_flow_ends_at_the_least_distance_from_its_start() -> None:
    seen, values = COMMUTING.eigenvalues, COMMUTING.measurements.values.numpy()
    start = np.full(SIZE, 0.01)
    expected = start + np.linalg.pinv(seen) @ (values - seen @ start)
    np.testing.assert_allclose(diagonal_flow(COMMUTING, 1, 0.01), expected, atol=1e-4)


@pytest.mark.parametrize("depth", [2, 3])
def test_the_flow_is_that_of_descending_factors_in_any_basis(depth: int) -> None:
    rotation = np.linalg.qr(np.random.default_rng(5).standard_normal((SIZE, SIZE))).Q
    matrices = rotation @ COMMUTING.measurements.matrices.numpy() @ rotation.T
    values = COMMUTING.measurements.values.numpy()
    factors = [0.5 * np.eye(SIZE) for _ in range(depth)]
    for _ in range(6_000):
        product = np.linalg.multi_dot(factors[::-1])
        gradient = (
            np.tensordot(np.einsum("kij,ij->k", matrices, product) - values, matrices, 1) * 2 / MEASURED
        )
        before = [np.eye(SIZE)]
        for factor in factors[:-1]:
            before.append(factor @ before[-1])
        after = np.eye(SIZE)
        steps = []
        for factor, inner in zip(factors[::-1], before[::-1], strict=True):
            steps.append(after.T @ gradient @ inner.T)
            after = after @ factor
        factors = [factor - 0.01 * step for factor, step in zip(factors, steps[::-1], strict=True)]
    ended = rotation.T @ np.linalg.multi_dot(factors[::-1]) @ rotation
    np.testing.assert_allclose(ended, np.diag(diagonal_flow(COMMUTING, depth, 0.5)), atol=5e-3)


@pytest.mark.parametrize("depth", [2, 3])
def test_the_flow_of_whole_matrices_remains_diagonal_where_measurements_commute(depth: int) -> None:
    ended = product_flow(COMMUTING.measurements, depth, 0.3**depth * near_identity(0.0, seed=0))
    np.testing.assert_allclose(ended, np.diag(diagonal_flow(COMMUTING, depth, 0.3)), atol=1e-4)
    assert float(sensing_loss(ended, COMMUTING.measurements)) == pytest.approx(LOSS_THRESHOLD, rel=0.1)


def test_a_start_off_the_basis_moves_off_the_diagonal() -> None:
    start = near_identity(0.1, seed=2)
    assert torch.linalg.eigvalsh(start - torch.eye(SIZE, dtype=torch.float64)).abs().max() == pytest.approx(
        0.1
    )
    torch.testing.assert_close(start, start.T)
    assert (start.diagonal() == 1).all()
    velocity = end_to_end_velocity(start, COMMUTING.measurements.matrices[0], 3)
    assert (velocity - torch.diag(velocity.diagonal())).abs().max() > 1e-3


def test_off_diagonal_entries_fit_as_well_and_make_a_matrix_of_the_same_trace_and_less_rank() -> None:
    solution = torch.tensor([3.0, 1.0, 0.5, 0, 0, 0, 0, 0], dtype=torch.float64)
    for share in SHARES:
        moved = spread_off_diagonal(solution, share)
        for matrix in COMMUTING.measurements.matrices:
            assert (matrix * moved).sum() == pytest.approx(float((matrix.diagonal() * solution).sum()))
        assert torch.linalg.matrix_norm(moved, "nuc") == pytest.approx(4.5)
    assert torch.linalg.matrix_rank(spread_off_diagonal(solution, 1.0)) == 2


def flow(problem: str, depth: int, scale: float, seed: int, values: list[float]) -> dict[str, object]:
    """Return where a flow has ended, with these singular values; 3 is the least nuclear norm."""
    labels = {"problem": problem, "depth": depth, "init_scale": scale, "seed": seed}
    least = {"least_nuclear_norm": 3.0, "least_of_all": 3.0, "least_eigenvalue": -1e-7}
    return labels | commuting._spectrum(np.array(values)) | least


def flows(*, excess: float = 0.009, depth_2: float = 1.0, off: float = 0.1, other: float = 3.2) -> pa.Table:
    """Return flows of two seeds that all claims hold in, unless an argument breaks one."""
    small = 1 + 3 * excess  # the smaller singular value from the smallest start
    rows = [
        flow("commuting", depth, scale, seed, [2.0, value])
        for seed in (0, 1)
        for depth in (1, 2, 3, 4)
        for scale, value in ((0.1, 1.1), (0.01, small))
    ]
    for seed in (0, 1):
        for depth in (2, 3, 4):
            rows.append(
                flow("off the basis", depth, 0.01, seed, [2.0, small * (off if depth > 2 else depth_2)])
            )
            rows.append(flow("not commuting", depth, 0.01, seed, [other, 0.01]))
    return pa.Table.from_pylist(rows)


CLAIMS = (least_nuclear_norm, no_schatten_minimum, lower_rank_off_the_basis, not_without_commuting)


def verdicts(table: pa.Table) -> list[bool]:
    return [claim(table).verdict == "reproduced" for claim in CLAIMS]


def test_all_claims_hold_in_flows_that_are_as_they_say() -> None:
    assert verdicts(flows()) == [True] * 4
    assert all(claim(flows()).evidence for claim in CLAIMS)


@pytest.mark.parametrize(("excess", "holds"), [(0.0099, True), (0.0101, False), (-0.0101, False)])
def test_a_nuclear_norm_within_a_hundredth_of_the_least_is_the_least(excess: float, holds: bool) -> None:
    assert (least_nuclear_norm(flows(excess=excess)).verdict == "reproduced") == holds


def test_the_excess_must_fall_with_the_start() -> None:
    table = flows()
    raised = [
        row | {"nuclear_norm": 3.0 + 0.01 * (row["depth"] == 4)} if row["init_scale"] == 0.1 else row
        for row in table.to_pylist()
    ]
    assert least_nuclear_norm(pa.Table.from_pylist(raised)).verdict == "not reproduced"


def test_a_solution_of_rank_1_has_no_neighbor_of_a_smaller_quasi_norm() -> None:
    rows = [row | {"singular_values": [3.0, 0.0]} for row in flows().to_pylist()]
    assert no_schatten_minimum(pa.Table.from_pylist(rows)).verdict == "not reproduced"


def test_quasi_norms_near_a_solution_are_those_of_the_moved_eigenvalues() -> None:
    ratios = schatten_ratios(flows(excess=0.0), 3, 0.5, 1.0)
    np.testing.assert_allclose(ratios, [np.sqrt(3) / (np.sqrt(2) + 1)] * 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("depth_2", "off", "holds"), [(1.0, 0.99, True), (1.0, 1.01, False), (0.98, 0.1, True), (0.8, 0.1, False)]
)
def test_the_rank_must_fall_at_every_depth_from_3_on_and_stay_at_depth_2(
    depth_2: float, off: float, holds: bool
) -> None:
    assert verdicts(flows(depth_2=depth_2, off=off)) == [True, True, holds, True]


@pytest.mark.parametrize("problem", ["commuting", "off the basis", "not commuting"])
def test_a_flow_without_a_number_refutes(problem: str) -> None:
    rows = flows().to_pylist()
    last = max(place for place, row in enumerate(rows) if (row["problem"], row["depth"]) == (problem, 3))
    rows[last] |= {"nuclear_norm": np.nan, "effective_rank": np.nan}
    expected = {
        "commuting": [False, True, False, False],
        "off the basis": [True, True, False, True],
        "not commuting": [True, True, True, False],
    }
    assert verdicts(pa.Table.from_pylist(rows)) == expected[problem]


def test_without_commuting_the_excess_must_be_larger_and_the_rank_lower() -> None:
    assert verdicts(flows(other=3.0)) == [True, True, True, False]
    rows = [
        row | {"effective_rank": 1.99} if row["problem"] == "not commuting" and row["depth"] == 3 else row
        for row in flows().to_pylist()
    ]
    assert verdicts(pa.Table.from_pylist(rows)) == [True, True, True, False]


def test_the_figure_draws_the_excess_the_quasi_norms_and_the_ranks() -> None:
    table = flows()
    norms, quasi_norms, ranks = draw_commuting(table).axes
    assert [line.get_label() for line in norms.lines] == [f"depth {depth}" for depth in (1, 2, 3, 4)]
    assert np.asarray(norms.lines[1].get_xdata()) == pytest.approx(np.array([0.01, 0.1]))
    assert np.asarray(norms.lines[1].get_ydata()) == pytest.approx(np.array([0.009, 0.1 / 3]))
    assert [line.get_label() for line in quasi_norms.lines] == [f"p = {power:g}" for power in POWERS]
    for line, power in zip(quasi_norms.lines, POWERS, strict=True):
        shown = np.asarray(line.get_ydata())
        assert shown[0] == pytest.approx(1.0)
        assert shown[-1] == pytest.approx(np.median(schatten_ratios(table, 3, power, 1.0)))
    assert len(ranks.lines) == 3
    np.testing.assert_array_equal(ranks.lines[0].get_xdata(), [2, 3, 4])


def test_the_table_has_medians_and_flows_are_kept_under_a_name_of_their_own() -> None:
    rows = commuting._table(flows()).to_pylist()
    (row,) = (one for one in rows if (one["problem"], one["depth"], one["scale"]) == ("commuting", 2, 0.1))
    assert row["nuclear norm"] == pytest.approx(3.1)
    assert row["excess"] == pytest.approx(0.1 / 3)
    names = {commuting._name(seed, depths) for seed in (0, 1) for depths in ((2, 3), (2, 3, 4))}
    assert len(names) == 4


def test_matrix_flows_start_at_scales_that_the_diagonal_ones_have_too() -> None:
    assert all(scale in commuting.INIT_SCALES[depth] for depth, scale in commuting.MATRIX_INIT_SCALES.items())


@pytest.mark.parametrize("depths", [(2, 3), (2, 3, 4)])
def test_flows_start_where_the_settings_say(depths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    starts: dict[int, list[torch.Tensor]] = {depth: [] for depth in depths}

    def note(measurements: Measurements, depth: int, start: torch.Tensor) -> torch.Tensor:
        assert len(measurements) == MEASURED
        starts[depth].append(start)
        return start

    monkeypatch.setattr(commuting, "product_flow", note)
    monkeypatch.setattr(commuting, "diagonal_flow", lambda problem, depth, scale: np.full(SIZE, scale))
    monkeypatch.setattr(commuting, "_least", lambda problem, commuting: {})
    flows_of = commuting.flows_of(0, depths)
    settings = commuting._settings(range(1), depths)
    assert settings["matrix"].startswith(f"{SIZE} × {SIZE},")
    assert settings["measurements"].startswith(f"{MEASURED},")
    identity = np.eye(SIZE)
    said = []
    for depth, (near, exact) in starts.items():
        (scale,) = {row["init_scale"] for row in flows_of.to_pylist()
                    if (row["problem"], row["depth"]) == ("not commuting", depth)}  # fmt: skip
        np.testing.assert_allclose(exact, scale**depth * identity)
        off = near.numpy() / scale**depth - identity
        assert f"S symmetric of norm {np.linalg.norm(off, 2):.3g} with" in settings["off the basis"]
        said.append(f"{scale:g} at depth {depth}")
    assert settings["scales of whole matrices"].endswith(", " + ", ".join(said))
