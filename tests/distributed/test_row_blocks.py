"""Row blocks of one process: they are the matrix that they were dealt from."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from dmf_fast import FitOptions, Observations, completion_loss, fit
from dmf_fast.chain import relative_distance
from dmf_fast.completion import PAPER, CompletionOptions, complete_matrix, widths
from dmf_fast.completion.folds import biases_of_folds
from dmf_fast.completion.gradient import leading_directions
from dmf_fast.completion.scales import degree_scales
from dmf_fast.completion.spectral import product_directions
from dmf_fast.completion.starts import Phase, Prepared, begin_descent
from dmf_fast.distributed import RowBlocks, initial_factors
from dmf_fast.distributed import row_blocks as module
from dmf_fast.evaluation import Biases
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.ops.statistics import degrees, mean_value, spread, value_range
from tests.distributed.row_problems import BLOCKS, COLUMNS, ROWS, block, row_blocks, whole

BOTH = pytest.mark.parametrize("reproducible", [False, True])


@pytest.fixture(autouse=True)
def _blocks_may_be_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_ENTRIES_PER_COLUMN", 0)


def random_factors() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    dims = (COLUMNS, 4, 3, BLOCKS * ROWS)
    return [
        torch.randn(out, into, generator=generator, dtype=torch.float64, requires_grad=True)
        for into, out in pairwise(dims)
    ]


@BOTH
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_loss_and_gradients_are_those_of_the_whole_matrix(
    reduction: Any, weighted: bool, reproducible: bool
) -> None:
    factors = random_factors()
    biases = [torch.randn(n, dtype=torch.float64, requires_grad=True) for n in (BLOCKS * ROWS, COLUMNS)]
    found = []
    for entries in (whole(weighted=weighted), row_blocks(reproducible=reproducible, weighted=weighted)):
        loss = completion_loss(factors, entries, reduction, row_bias=biases[0], column_bias=biases[1])
        found.append([loss.detach(), *torch.autograd.grad(3 * loss, [*factors, *biases])])
    for of_whole, of_blocks in zip(*found, strict=True):
        torch.testing.assert_close(of_blocks, of_whole, rtol=1e-12, atol=1e-12)


@BOTH
def test_statistics_are_those_of_the_whole_matrix(reproducible: bool) -> None:
    entries, blocks = whole(weighted=True), row_blocks(reproducible=reproducible, weighted=True)
    assert blocks.shape == entries.shape
    assert blocks.nnz == len(blocks) == entries.nnz
    assert blocks.total_weight == pytest.approx(entries.total_weight, rel=1e-14)
    assert mean_value(blocks) == pytest.approx(mean_value(entries), rel=1e-14)
    assert spread(blocks, 3.0) == pytest.approx(spread(entries, 3.0), rel=1e-14)
    assert value_range(blocks) == value_range(entries)
    for own, others in (
        (degrees(blocks), degrees(entries)),
        (degree_scales(blocks, 0.4), degree_scales(entries, 0.4)),
    ):
        for of_blocks, of_whole in zip(own, others, strict=True):
            torch.testing.assert_close(of_blocks, of_whole, rtol=1e-13, atol=0)


@BOTH
def test_biases_are_those_of_the_whole_matrix(reproducible: bool) -> None:
    own, others = Biases.fit(row_blocks(reproducible=reproducible)), Biases.fit(whole())
    assert own.row_biases == pytest.approx(others.row_biases, rel=1e-9, abs=1e-9)
    assert own.column_biases == pytest.approx(others.column_biases, rel=1e-9, abs=1e-9)


@BOTH
def test_leading_directions_are_those_of_the_whole_matrix(reproducible: bool) -> None:
    model = DeepMatrixFactorization((BLOCKS * ROWS, COLUMNS), 2, 3, seed=0, dtype=torch.float64)
    own = leading_directions(model, row_blocks(reproducible=reproducible), 3, passes=40)
    others = leading_directions(model, whole(), 3, passes=40)
    torch.testing.assert_close(own.values, others.values, rtol=1e-9, atol=0)
    product = own.left * own.values @ own.right.T
    torch.testing.assert_close(product, others.left * others.values @ others.right.T, rtol=1e-7, atol=1e-9)


@BOTH
@pytest.mark.parametrize("engine", ["native", "torch"])
def test_a_run_is_that_of_the_whole_matrix(engine: Any, reproducible: bool) -> None:
    start = [factor.detach() for factor in random_factors()]
    rule = partial(torch.optim.SGD, lr=0.02, momentum=0.5, weight_decay=1e-3)
    results, trained = [], []
    for entries in (whole(), row_blocks(reproducible=reproducible)):
        factors = [factor.clone() for factor in start]
        results.append(fit(factors, entries, rule, FitOptions(steps=50, engine=engine)))
        trained.append(factors)
    losses = [result.history["train_loss"] for result in results]
    assert losses[1] == pytest.approx(losses[0], rel=1e-12)
    for of_blocks, of_whole in zip(trained[1], trained[0], strict=True):
        torch.testing.assert_close(of_blocks, of_whole, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("reproducible", [False, True])
def test_a_width_is_found_as_on_the_whole_matrix(reproducible: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widths, "FIRST_WIDTH", 2)
    options = PAPER.changed(
        {"hidden": "auto", "depth": 2, "center": True, "lr": 0.03, "steps": 400, "evaluate_every": 10}
    )
    found, expected = (
        complete_matrix(entries, options) for entries in (row_blocks(reproducible=reproducible), whole())
    )
    assert len(found.widths) > 1
    assert [(one.width, one.steps) for one in found.widths] == [
        (one.width, one.steps) for one in expected.widths
    ]
    assert relative_distance(list(found.model.factors), list(expected.model.factors)) < 1e-9


def test_a_split_has_every_entry_once_and_leaves_no_row_without_one() -> None:
    blocks = row_blocks()
    train, test = blocks.split(0.3, seed=0)
    (own,), (kept_aside,), (all_of_them,) = train.parts, test.parts, blocks.parts
    pairs = [set(zip(part.rows.tolist(), part.columns.tolist(), strict=True)) for part in (own, kept_aside)]
    assert not pairs[0] & pairs[1]
    assert pairs[0] | pairs[1] == set(
        zip(all_of_them.rows.tolist(), all_of_them.columns.tolist(), strict=True)
    )
    assert set(own.rows.tolist()) == set(all_of_them.rows.tolist())
    assert len(test) == pytest.approx(0.3 * len(blocks), abs=BLOCKS)


def test_splits_and_partitions_do_not_depend_on_how_blocks_are_held() -> None:
    held = row_blocks(), row_blocks(reproducible=True)

    def entries(blocks: RowBlocks) -> list[Any]:
        return torch.cat([part.values for part in blocks.parts]).tolist()

    for one, other in zip(
        [*held[0].split(0.3, 1), *held[0].partition(3, 1)],
        [*held[1].split(0.3, 1), *held[1].partition(3, 1)],
        strict=True,
    ):
        assert entries(one) == entries(other)


def test_a_partition_has_every_entry_once() -> None:
    blocks = row_blocks()
    parts = blocks.partition(3, seed=0)
    assert sum(len(part) for part in parts) == len(blocks)
    assert min(map(len, parts)) > 0


def test_folds_of_other_seeds_and_numbers_have_other_entries_and_names() -> None:
    blocks = row_blocks()
    named = {part.digest() for seed in (0, 1) for pair in blocks.folds(0.2, 2, seed) for part in pair}
    assert len(named) == 8
    assert blocks.digest() not in named


def test_rows_that_are_not_there_begin_and_stay_at_zero() -> None:
    blocks = RowBlocks([block(0), block(1)], row_counts=[ROWS, ROWS - 1], origin="a test")
    assert blocks.row_count == 2 * ROWS - 1
    blocks = RowBlocks([block(0)], row_counts=[ROWS - 1], origin="a test")
    factors = initial_factors(blocks, (COLUMNS, 3, ROWS), 1.0, seed=0)
    assert (factors[-1][:-1] != 0).all()
    assert (factors[-1][-1] == 0).all()


@pytest.mark.parametrize("name", ["gaussian", "uniform"])
def test_starts_have_the_size_that_is_asked_for(name: str) -> None:
    blocks = RowBlocks([Observations([0], [0], [1.0], (500, 300)) for _ in range(2)], origin="a test")
    first, last = initial_factors(blocks, (300, 200, 1000), 2.0, name, seed=0)
    # ‖W‖² of a product of independent entries: s² · min(m, n).
    assert (last @ first).square().sum().item() == pytest.approx(4 * 300, rel=0.05)
    assert not torch.equal(last[:500], last[500:])


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda blocks: blocks.rows, "do not have rows"),
        (lambda blocks: blocks.columns, "do not have columns"),
        (lambda blocks: blocks.values, "do not have values"),
        (lambda blocks: blocks.weights, "do not have weights"),
        (lambda blocks: blocks.coordinates(), "do not have coordinates"),
        (lambda blocks: blocks.layout(), "do not have a layout"),
        (lambda blocks: blocks.select([True]), "do not have an order"),
        (lambda blocks: blocks.transpose(), "do not have a transpose"),
        (lambda blocks: blocks.with_values([1.0]), "do not have values"),
        (pickle.dumps, "do not have a form"),
    ],
)
def test_what_a_process_has_alone_is_refused_with_what_to_take(
    use: Callable[[RowBlocks], Any], words: str
) -> None:
    with pytest.raises(TypeError, match=f"{words}.*use `parts`"):
        use(row_blocks())


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "`blocks` must hold at least one"),
        ([block(0), Observations([0], [0], [1.0], (2, 2))], r"`blocks\[1\]` must have the shape"),
        ([block(0), block(1, dtype=torch.float32)], r"`blocks\[1\]` must have the dtype"),
        ([block(0), block(1, weighted=True)], "must have weights or none"),
    ],
)
def test_blocks_that_do_not_fit_are_named(blocks: list[Observations], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RowBlocks(blocks)


def test_blocks_too_small_to_be_swept_alone_are_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LEAST_ENTRIES_PER_COLUMN", 40)
    with pytest.raises(ValueError, match=r"`reproducible` must be False .* fewer --blocks"):
        row_blocks(reproducible=True)


def test_a_truth_is_refused_of_rows_that_processes_share() -> None:
    with pytest.raises(ValueError, match="`truth` must be None"):
        fit(
            random_factors(),
            row_blocks(reproducible=True),
            partial(torch.optim.SGD, lr=0.1),
            truth=torch.zeros(BLOCKS * ROWS, COLUMNS),
        )


def test_what_a_job_begins_with_does_not_depend_on_the_number_of_threads() -> None:
    generator = np.random.default_rng(0)
    rows, columns, size = np.arange(120_000) // 3, np.arange(120_000) % 299, 40_000  # torch shares out 32,768
    blocks = RowBlocks(
        [Observations(rows, columns, generator.normal(size=len(rows)), (size, 300)) for _ in range(2)],
        reproducible=True,
    )
    options, found = CompletionOptions(hidden=64), []
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        (biases,) = biases_of_folds([(blocks, None)], options)
        prepared = Prepared.of(blocks, None, options, biases)
        start = begin_descent(Phase(2, "spectral"), prepared, options)
        product = product_directions(start.model, blocks.sharding)
        assert prepared.coordinates is not None
        found.append(
            [prepared.coordinates.row_scale, *start.model.parameter_list, product.left, product.right]
        )
    torch.set_num_threads(before)
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            assert torch.equal(one, other)
