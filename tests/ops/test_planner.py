"""The planner against brute force over all splits and orders."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dmf_fast
from dmf_fast import Observations
from dmf_fast.ops import planner
from dmf_fast.ops.planner import Order


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
    assert plan("medium").tile_precision == "bfloat16"
    assert plan("highest", torch.bfloat16).tile_precision == "tf32"
    assert plan("highest", torch.float64).tile_precision is None
    assert plan("high", nnz=100_000).tile_precision is None
    assert plan("high", dims=(3706, 200, 6040)).tile_precision is None
    assert plan("high", device="cpu").tile_precision is None
    for dense_enough in (plan("highest", nnz=8_000_000), plan("high")):
        text = str(dense_enough)
        assert f"tensor cores ({dense_enough.tile_precision})" in text
        assert "split at 1, tiles" in text
