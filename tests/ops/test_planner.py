"""The planner against brute force over all splits and orders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_fast
from dmf_fast import Observations
from dmf_fast.ops import functional, planner
from dmf_fast.ops.costs import Costs
from dmf_fast.ops.planner import Order, Plan

# Nothing costs anything; tests raise one price at a time.
FREE = Costs(
    chain_flop=0.0, sweep_flop=0.0, sweep_entry=0.0, byte=0.0, transposed_byte=0.0, dense_entry=0.0,
    dense_cell=0.0, split=0.0, slice_width=4, layout_bytes=11,
)  # fmt: skip
# 30 × 20 by hidden widths of 5 and 8: W_1 is 5 × 20, W_2 8 × 5, W_3 30 × 8.
DIMS, NNZ = (20, 5, 8, 30), 100


def priced(dims: tuple[int, ...], nnz: int, biases: int = 0, **prices: Any) -> Plan:
    """The plan where only what is named has a price."""
    return planner._plan_chain(dims, nnz, biases, torch.float32, replace(FREE, **prices))


def flops_of(order: Order, dims: tuple[int, ...]) -> tuple[float, int, int]:
    """Forward and backward flops of a tree of products, and its rows and columns, counted from scratch."""
    if isinstance(order, int):
        return 0.0, dims[order + 1], dims[order]
    left, rows, inner = flops_of(order[0], dims)
    right, also_inner, columns = flops_of(order[1], dims)
    assert inner == also_inner
    return left + right + 6.0 * rows * inner * columns, rows, columns


def leaves(order: Order | None) -> list[int]:
    if order is None:
        return []
    return [order] if isinstance(order, int) else leaves(order[0]) + leaves(order[1])


@given(dims=st.lists(st.integers(1, 300), min_size=2, max_size=7), nnz=st.integers(0, 5000))
def test_the_plan_uses_every_factor_once_in_order_and_counts_its_flops(dims: list[int], nnz: int) -> None:
    plan = planner.plan_chain(tuple(dims), nnz)
    assert leaves(plan.left) + leaves(plan.right) == list(range(len(dims) - 2, -1, -1))
    right = 0.0 if plan.right is None else flops_of(plan.right, plan.dims)[0]
    assert plan.chain_flops == flops_of(plan.left, plan.dims)[0] + right
    assert plan.cost == min(cost for _, cost in plan.alternatives)
    assert len(plan.alternatives) == len(dims) - 1


def test_the_papers_movielens_run_does_not_form_the_matrix() -> None:
    plan = planner.plan_chain((943, 943, 1682), 100_000)
    assert plan.split == 1
    assert plan.chain_flops == 0
    assert plan.observed_flops == pytest.approx(0.5658e9)


def test_a_narrow_hidden_width_is_where_the_chain_is_split() -> None:
    assert planner.plan_chain((1000, 200, 8, 200, 1000), 50_000).split == 2


def test_a_full_matrix_and_a_single_factor_are_computed_densely() -> None:
    assert planner.plan_chain((200, 200, 200), 40_000).split is None
    assert planner.plan_chain((200, 300), 10).split is None


def test_a_small_chain_is_formed_but_never_in_16_bits() -> None:
    assert planner.plan_chain((50, 8, 60), 500).split is None
    assert planner.plan_chain((50, 8, 60), 500, dtype=torch.bfloat16).split == 1
    assert planner.plan_chain((50, 60), 500, dtype=torch.bfloat16).split is None


def test_biases_make_the_split_wider() -> None:
    costs = [dict(planner.plan_chain((900, 64, 700), 9000, biases).alternatives) for biases in (0, 1, 2)]
    # 65 and 66 columns are both filled up to 80; wider copies are made for 66.
    assert costs[0]["split at 1"] < costs[1]["split at 1"] < costs[2]["split at 1"]
    assert costs[0]["dense"] == costs[1]["dense"]


def test_a_chain_is_multiplied_from_its_narrow_end() -> None:
    plan = planner.plan_chain((600, 600, 600, 4, 600), 100_000)
    narrow_first = planner._cheapest_order((600, 600, 600, 4), 0, 3)
    assert narrow_first.order == ((2, 1), 0)
    assert narrow_first.flops == 2 * 6 * 4 * 600 * 600
    assert plan.split == 3


def test_explain_names_the_plan_its_flops_and_the_alternatives() -> None:
    observations = Observations([0, 1], [1, 0], [1.0, 2.0], (1000, 900))
    text = str(
        dmf_fast.explain([torch.ones(30, 900), torch.ones(20, 30), torch.ones(1000, 20)], observations)
    )
    for expected in ("1000 × 900", "depth 3", "GFLOP", "split at 1", "split at 2", "dense", "MB"):
        assert expected in text


def test_the_planner_uses_tiles_where_the_pattern_is_dense_and_follows_matmul_precision() -> None:
    dims, nnz = (3706, 64, 6040), 1_000_000

    def plan(precision: str, dtype: torch.dtype = torch.float32, **changes) -> planner.Plan:
        return planner.plan_chain(**{"dims": dims, "nnz": nnz, "dtype": dtype, "device": "cuda",
                                     "precision": precision, **changes})  # fmt: skip

    assert plan("high").tile_precision == "tf32"
    assert plan("medium").tile_precision == "tf32"
    assert plan("highest", torch.bfloat16).tile_precision == "tf32"
    assert plan("highest", torch.float64).tile_precision is None
    assert plan("high", nnz=100_000).tile_precision is None
    assert plan("high", dims=(3706, 200, 6040)).tile_precision is None
    assert plan("high", device="cpu").tile_precision is None
    for dense_enough in (plan("highest", nnz=8_000_000), plan("high")):
        text = str(dense_enough)
        assert f"tensor cores ({dense_enough.tile_precision})" in text
        assert "split at 1, tiles" in text


@pytest.mark.parametrize(
    ("price", "biases", "costs"),
    [
        # A product counts three times, forward and for both gradients, two flops a multiply-add. Dense: the
        # cheaper of (W_3 W_2) W_1, 1200 + 3000, and W_3 (W_2 W_1), 800 + 4800 multiply-adds.
        ({"chain_flop": 1}, 0, {"dense": 6 * 4200, "split at 1": 6 * 1200, "split at 2": 6 * 800}),
        # 4 bytes a number; both operands and the result of every product, three times.
        # W_3 W_2: 240 + 40 + 150, times W_1: 150 + 100 + 600; W_2 W_1: 40 + 100 + 160.
        # At the split A, B and their gradients; 5 columns are copied to 8 there and back, 8 are whole slices.
        (
            {"byte": 1},
            0,
            {
                "dense": 12 * (430 + 850),
                "split at 1": 12 * 430 + 3 * 8 * 5 * 50,
                "split at 2": 12 * 300 + 8 * 8 * 50,
            },
        ),
        # A bias is one more column on both sides: 8 and one are copied to 12, too.
        (
            {"byte": 1},
            1,
            {
                "dense": 12 * (430 + 850),
                "split at 1": 12 * 430 + 3 * 8 * 6 * 50,
                "split at 2": 12 * 300 + 3 * 8 * 9 * 50,
            },
        ),
        # Only at split 1 is B a factor, which is copied to be transposed, as its gradient is.
        ({"transposed_byte": 1}, 0, {"dense": 0, "split at 1": 8 * 5 * 20, "split at 2": 0}),
        ({"transposed_byte": 1}, 2, {"dense": 0, "split at 1": 8 * 7 * 20, "split at 2": 0}),
        # The sweep makes 6 flops for an entry and each column of the slices.
        ({"sweep_flop": 1}, 0, {"dense": 0, "split at 1": 600 * 8, "split at 2": 600 * 8}),
        ({"sweep_flop": 1}, 1, {"dense": 0, "split at 1": 600 * 8, "split at 2": 600 * 12}),
        ({"sweep_flop": 1, "slice_width": 1}, 2, {"dense": 0, "split at 1": 600 * 7, "split at 2": 600 * 10}),
        ({"sweep_entry": 1}, 1, {"dense": 0, "split at 1": 100, "split at 2": 100}),
        ({"dense_entry": 1}, 1, {"dense": 100, "split at 1": 0, "split at 2": 0}),
        ({"dense_cell": 1}, 1, {"dense": 600, "split at 1": 0, "split at 2": 0}),
        ({"split": 7}, 1, {"dense": 0, "split at 1": 7, "split at 2": 7}),
    ],
)
def test_every_term_costs_what_is_counted_by_hand(
    price: dict[str, float], biases: int, costs: dict[str, float]
) -> None:
    assert dict(priced(DIMS, NNZ, biases, **price).alternatives) == costs


def test_the_numbers_that_a_plan_names_are_those_counted_by_hand() -> None:
    # 11 bytes of layout an entry; a value of 4 bytes at a split, which three are where W is formed.
    split, dense = priced(DIMS, NNZ, dense_cell=1, transposed_byte=1), priced(DIMS, NNZ, split=1)
    assert (split.name, split.chain_flops, split.observed_flops) == ("split at 2", 6 * 800, 6 * 100 * 8)
    assert split.bytes == 12 * 300 + 8 * 8 * 50 + 15 * 100
    assert (dense.name, dense.chain_flops, dense.observed_flops) == ("dense", 6 * 4200, 700)
    assert dense.bytes == 12 * (430 + 850) + 8 * 600 + 23 * 100
    first = priced(DIMS, NNZ, dense_cell=1e9, chain_flop=-1)
    assert (first.name, first.bytes) == ("split at 1", 12 * 430 + 3 * 8 * 5 * 50 + 8 * 5 * 20 + 15 * 100)


@pytest.mark.parametrize(
    ("nnz", "biases", "name"), [(299, 0, "split at 1"), (301, 0, "dense"), (299, 1, "dense")]
)
def test_the_choice_flips_where_both_plans_cost_the_same(nnz: int, biases: int, name: str) -> None:
    # 10 a cell of 30 × 30 is what 6 · 5 flops for each of 300 entries cost.
    prices: dict[str, Any] = {"dense_cell": 10, "sweep_flop": 1, "slice_width": 1}
    assert priced((30, 5, 30), nnz, biases, **prices).name == name


@pytest.mark.parametrize(
    ("hidden", "nnz", "biases", "tiles"),
    [
        # 8 · 100 · 100 · 32 flops are what 10 · 6 · 16 for each of 2,666.7 entries cost.
        (16, 2_666, 0, False),
        (16, 2_667, 0, True),
        # Tiles are filled up to 32 columns: at 33 both cost twice as much, but for the slices, of 16.
        (32, 1_333, 0, False),
        (32, 1_334, 0, True),
        (33, 1_777, 0, False),
        (33, 1_778, 0, True),
        (32, 1_777, 1, False),
        (32, 1_778, 1, True),
        # 128 columns are the most that a tile takes, and 2 % the least that has masks.
        (128, 1_334, 0, True),
        (128, 10_000, 1, False),
        (1, 10_000, 0, True),
    ],
)
def test_tiles_replace_the_sweep_where_they_cost_less(
    hidden: int, nnz: int, biases: int, tiles: bool
) -> None:
    prices: dict[str, Any] = {"sweep_flop": 10, "slice_width": 16, "tile_flop": 1, "tile_precision": "tf32"}
    plan = priced((100, hidden, 100), nnz, biases, dense_cell=1e9, **prices)
    assert plan.tile_precision == ("tf32" if tiles else None)
    if tiles:
        assert plan.cost == plan.observed_flops == 80_000 * 32 * -(-(hidden + biases) // 32)


def test_patterns_too_sparse_for_masks_have_no_tiles() -> None:
    for nnz, tiles in ((199, False), (200, True)):
        plan = priced((100, 8, 100), nnz, dense_cell=1e9, sweep_flop=1e9, tile_flop=1, tile_precision="tf32")
        assert (plan.tile_precision is not None) == tiles


def test_products_are_ordered_by_flops_and_bytes_together() -> None:
    # (W_3 W_2) W_1 makes 60 multiply-adds and moves 86 numbers, W_3 (W_2 W_1) makes 88 and moves 82.
    dims = (4, 1, 2, 10)
    assert planner._cheapest_order(dims, 0, 3, replace(FREE, chain_flop=1)).order == ((2, 1), 0)
    assert planner._cheapest_order(dims, 0, 3, replace(FREE, byte=1)).order == (2, (1, 0))
    assert planner._cheapest_order(dims, 0, 3, replace(FREE, chain_flop=1, byte=1)).order == ((2, 1), 0)


@pytest.mark.parametrize(
    ("sides", "count"), [((), 0), (("row_bias",), 1), (("column_bias",), 1), (("row_bias", "column_bias"), 2)]
)
def test_every_bias_is_planned_for(
    sides: tuple[str, ...], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[int] = []

    def noting(factors: Any, observations: Observations, biases: int = 0) -> Plan:
        planned.append(biases)
        return planner.plan_for(factors, observations, biases)

    monkeypatch.setattr(functional, "plan_for", noting)
    given = {name: torch.zeros(2) for name in sides}
    dmf_fast.completion_loss([torch.ones(2, 2)], Observations([0], [0], [1.0], (2, 2)), **given)
    assert planned == [count]


def test_native_steps_form_the_product_only_where_they_may() -> None:
    assert planner.plan_descent((100, 100, 100), 10_000, "cpu").split is None
    assert planner.plan_descent((100, 100, 100), 10_000, "cpu", forms_product=False).split == 1
