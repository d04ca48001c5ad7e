"""Connected and disconnected entries: the patterns are what is said, and the rules tell right from wrong."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from matplotlib.figure import Figure

from dmf_fast.chain import chain_product
from dmf_fast.experiments.norms import connectivity
from dmf_fast.experiments.norms.connectivity_claims import (
    COMPLETE,
    CONNECTED,
    INCOMPLETE,
    PATTERNS,
    PRECISION,
    Completion,
    connected,
    disconnected,
    transition,
)
from dmf_fast.observations import Observations
from dmf_fast.training import History, fit_many


def dense(observed: Observations) -> np.ndarray:
    """The observed entries as a matrix, NaN elsewhere."""
    matrix = np.full(observed.shape, np.nan)
    rows, columns = observed.coordinates()
    matrix[rows, columns] = observed.values
    return matrix


def components(pattern: np.ndarray) -> int:
    from scipy.sparse.csgraph import connected_components

    zeros = np.zeros_like(pattern)
    return int(connected_components(np.block([[zeros, pattern], [pattern.T, zeros]]))[0])


@pytest.mark.parametrize(
    ("pattern", "entries", "parts"), [(INCOMPLETE, 7, 2), (COMPLETE, 8, 2), (CONNECTED, 9, 1)]
)
def test_patterns_are_of_two_parts_until_one_entry_more_connects_them(
    pattern: str, entries: int, parts: int
) -> None:
    for seed in range(3):
        observed = ~np.isnan(dense(connectivity.problem(1, pattern, seed)))
        assert observed.sum() == PATTERNS[pattern].sum() == entries
        assert components(observed) == parts


@pytest.mark.parametrize("rank", [1, 2])
def test_the_patterns_of_a_seed_are_of_one_matrix_that_has_the_rank_as_the_least(rank: int) -> None:
    fewer, some, more = (dense(connectivity.problem(rank, pattern, seed=4)) for pattern in PATTERNS)
    np.testing.assert_array_equal(fewer[~np.isnan(fewer)], some[~np.isnan(fewer)])
    np.testing.assert_array_equal(some[~np.isnan(some)], more[~np.isnan(some)])
    # A complete block has the rank itself, so that no completion can have less.
    columns = ~np.isnan(some[0])
    block = some[~np.isnan(some[:, columns]).any(axis=1)][:, columns]
    assert block.shape == (2, 2)
    assert np.linalg.matrix_rank(block) == rank


def test_the_least_nuclear_norm_of_complete_blocks_is_the_sum_of_those_of_the_blocks() -> None:
    observed = connectivity.problem(2, COMPLETE, seed=0)
    blocks = np.nan_to_num(dense(observed))  # zero elsewhere, and then its values are those of the blocks
    least = float(np.linalg.norm(blocks, "nuc"))
    assert connectivity.least_nuclear_norm(observed) == pytest.approx(least, rel=PRECISION)


def test_a_run_from_complete_blocks_has_the_least_nuclear_norm_and_a_higher_rank() -> None:
    observed = connectivity.problem(1, COMPLETE, seed=1)
    (one,) = fit_many([connectivity._trial(1, COMPLETE, 1, 1e-8, observed)], progress=False).results
    product = chain_product(one.factors)
    completion = Completion.of(one, product, connectivity.least_nuclear_norm(observed))
    values = np.linalg.svd(product.numpy())[1]
    assert completion.excess_value == pytest.approx(values[1] / values[0])
    assert completion.excess_value > 0.05
    assert completion.nuclear_excess < 1e-4
    assert completion.loss <= connectivity.LOSS_THRESHOLD


def test_excess_is_over_the_least_and_no_less_than_its_precision() -> None:
    labels = {"rank": 2, "pattern": CONNECTED, "init_scale": 1e-4, "seed": 3}
    one: Any = SimpleNamespace(
        trial=SimpleNamespace(labels=labels),
        result=SimpleNamespace(history=History(pa.table({"train_loss": [1.0, 1e-9]}))),
    )
    product = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64))
    expected = Completion(2, CONNECTED, 1e-4, 3, 1e-9, 0.5, 0.25)
    assert Completion.of(one, product, 8.0) == expected
    assert Completion.of(one, product, 10.0 + 1e-9).nuclear_excess == PRECISION


def test_trials_have_the_settings_that_the_page_says() -> None:
    trial = connectivity._trial(2, CONNECTED, 3, 1e-8, connectivity.problem(2, CONNECTED, 3))
    assert trial.labels == {"rank": 2, "pattern": CONNECTED, "init_scale": 1e-8, "seed": 3}
    assert [tuple(factor.shape) for factor in trial.factors] == [(4, 4), (4, 4)]
    assert trial.spec.options["lr"] == connectivity.LEARNING_RATE
    assert (trial.options.reduction, trial.options.train_loss_threshold) == ("sum", 1e-12)


def completions(**changed: Any) -> list[Completion]:
    """Runs as the claims say, from a large and a small start; ``changed`` in the last of each pattern."""
    rows = []
    for rank in (1, 2):
        for seed in range(5):
            for scale, value in ((1e-2, 0.2), (1e-16, 0.001)):
                rows += [
                    Completion(rank, COMPLETE, scale, seed, 1e-12, 0.2 + seed / 100, PRECISION),
                    Completion(rank, CONNECTED, scale, seed, 1e-12, value + seed / 1e4, 0.1 + seed / 100),
                ]
    return rows[:-2] + [replace(one, **changed) for one in rows[-2:]]


def test_runs_as_claimed_reproduce_the_claims() -> None:
    assert [claim(completions()).verdict for claim in (disconnected, connected, transition)] == [
        "reproduced"
    ] * 3


@pytest.mark.parametrize(
    ("changed", "verdicts"),
    [
        ({"loss": 1e-6}, "yy"),
        ({"loss": 1.1e-6}, "nn"),
        ({"nuclear_excess": 0.001}, "yy"),
        ({"nuclear_excess": 0.0011}, "ny"),
        ({"excess_value": 0.1201}, "yn"),  # half of 0.24 at the start, and far from a tenth
        ({"excess_value": 0.119}, "nn"),
        ({"excess_value": 0.02}, "ny"),
        ({"excess_value": float("nan")}, "nn"),
    ],
)
def test_one_run_that_is_not_as_claimed_refutes_what_is_claimed_of_it(
    changed: dict[str, float], verdicts: str
) -> None:
    found = [claim(completions(**changed)).verdict for claim in (disconnected, connected)]
    assert found == [{"y": "reproduced", "n": "not reproduced"}[letter] for letter in verdicts]


@pytest.mark.parametrize("measure", ["excess_value", "nuclear_excess"])
def test_without_a_difference_there_is_no_transition(measure: str) -> None:
    changed: list[dict[str, Any]] = [{measure: 0.3 + one.seed / 10} for one in completions()]
    alike = [replace(one, **values) for one, values in zip(completions(), changed, strict=True)]
    assert transition(alike).verdict == "not reproduced"


def test_a_difference_at_one_rank_only_is_no_transition() -> None:
    alike = [replace(one, nuclear_excess=0.3) if one.rank == 2 else one for one in completions()]
    assert transition(alike).verdict == "not reproduced"


def test_the_figure_draws_medians_by_scale_from_the_largest() -> None:
    rows = [replace(one, pattern=pattern) for pattern in PATTERNS for one in completions()[::2]]
    figure: Figure = connectivity._plot(rows)
    assert len(figure.axes) == 4
    for axes, height in zip(figure.axes, (0.22, PRECISION, 0.22, PRECISION), strict=True):
        lines = {line.get_label(): np.asarray(line.get_data()).tolist() for line in axes.lines}
        assert list(lines) == list(PATTERNS)
        for x, y in lines.values():
            assert x == [1e-2, 1e-16]
            assert y == pytest.approx([height] * 2)
        assert axes.xaxis_inverted()


def test_the_table_has_a_row_for_every_rank_pattern_and_scale() -> None:
    table = connectivity._table(completions())
    assert len(table) == 2 * 2 * 2
    assert table["σ_(r+1) / σ_1"][0].as_py() == pytest.approx(0.22)
