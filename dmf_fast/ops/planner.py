"""Plans how a loss over a chain ``W_N … W_1`` is computed: where to split it and in which order to multiply.

The split ``s`` makes ``A = W_N … W_{s+1}`` of shape ``(m, h)`` and ``B = W_s … W_1`` of shape ``(h, n)``,
``h = d_s``, so that only the observed entries of ``A B`` are ever computed. Where the matrix is small, Ω
nearly full or the chain a single matrix, the dense product is formed instead, except in 16-bit dtypes, which
hold fewer digits than the sums of the sweep. On a GPU, if Ω is dense enough, tensor cores compute whole tiles
of ``A B``, which are never stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import index

import torch
from torch import Tensor

from dmf_fast import _native
from dmf_fast.observations import Observations
from dmf_fast.ops.costs import CPU, DESCENT, DESCENT_BLOCK, Costs, costs_on, matmul_precision

ITEM_BYTES = 4
_TILE_WIDTH_STEP = 32  # tiles fill h up to a multiple of this

Order = tuple["Order", "Order"] | int  # the index of a factor, or the two sides of a product


@dataclass(frozen=True)
class Plan:
    """How one pass over a chain, the loss and all gradients, is computed.

    Attributes:
        dims: ``(d_0, …, d_N)``: columns ``n = d_0``, hidden widths, rows ``m = d_N``.
        nnz: number of observed entries.
        split: ``s`` in 1 … N−1, or None if the dense product is formed.
        left: order of the products of ``A = W_N … W_{s+1}`` (of all of ``W`` if dense); a leaf is an index
            into the list of factors, a pair the product ``first @ second``.
        right: order of the products of ``B = W_s … W_1``; None if dense.
        chain_flops: flops of the dense products, forward and backward.
        observed_flops: flops over the observed entries.
        bytes: memory traffic of the dense products and at the split, at 4 bytes per number.
        cost: what the planner minimizes, in flops of a BLAS product.
        tile_precision: ``"tf32"`` or ``"tf32x3"`` if tensor cores compute loss and gradients at the split;
            None if the sweep does.
        alternatives: name and cost of every plan considered.
        engine: the engine that makes the steps of a run, if an optimizer was given to `dmf_fast.explain`.
        sharding: which process has which part and what is communicated, if processes share the rows.

    """

    dims: tuple[int, ...]
    nnz: int
    split: int | None
    left: Order
    right: Order | None
    chain_flops: float
    observed_flops: float
    bytes: float
    cost: float
    tile_precision: str | None = None
    alternatives: tuple[tuple[str, float], ...] = ()
    engine: str = ""
    sharding: str = ""

    @property
    def name(self) -> str:
        """``"dense"``, ``"split at s"`` or ``"split at s, tiles"``."""
        tiles = "" if self.tile_precision is None else ", tiles"
        return "dense" if self.split is None else f"split at {self.split}{tiles}"

    def __str__(self) -> str:
        """Return a description of the plan in a few lines."""
        m, n = self.dims[-1], self.dims[0]
        lines = [
            f"{m} × {n}, depth {len(self.dims) - 1}, {self.nnz} observed ({_density(self):.3%}): {self.name}"
        ]
        if self.split is None:
            lines.append(f"  W = {_show(self.left)}, {m} × {n}, is formed; one pass gives loss and gradient")
        else:
            h = self.dims[self.split]
            lines.append(f"  A = {_show(self.left)}, {m} × {h};  B = {_show(self.right)}, {h} × {n}")
            how = "one sweep over Ω gives"
            if self.tile_precision is not None:
                how = f"tensor cores ({self.tile_precision}) on tiles of A·B, none of them stored, give"
            lines.append(f"  {how} loss, dA and dB: {self.observed_flops / 1e9:.4g} GFLOP")
        lines.append(f"  dense products, forward and backward: {self.chain_flops / 1e9:.4g} GFLOP")
        lines.append(f"  memory traffic: {self.bytes / 1e6:.4g} MB")
        if self.engine:
            lines.append(f"  engine: {self.engine}")
        if self.sharding:
            lines.append(f"  {self.sharding}")
        lines.append("  relative costs of the plans considered:")
        for name, cost in sorted(self.alternatives, key=lambda pair: pair[1]):
            lines.append(f"    {name:<19} {cost / self.cost:8.2f}")
        return "\n".join(lines)


def plan_for(factors: Sequence[Tensor], observations: Observations, biases: int = 0) -> Plan:
    """Return the plan for checked arguments; each bias is one more hidden unit at the split."""
    # index() makes the sizes constants of a compiled graph, since the plan depends on them.
    dims = (index(factors[0].shape[1]), *(index(factor.shape[0]) for factor in factors))
    device = observations.device.type
    precision = matmul_precision(device, observations.dtype)
    return plan_chain(dims, index(observations.nnz), biases, observations.dtype, device, precision)


def plan_chain(
    dims: tuple[int, ...],
    nnz: int,
    biases: int = 0,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    precision: str = "highest",
) -> Plan:
    """Return the cheapest plan for a chain of ``dims = (d_0, …, d_N)`` with ``nnz`` observed entries.

    ``device`` and ``precision`` are those of :func:`dmf_fast.ops.costs.costs_on`.
    """
    return _plan_chain(dims, nnz, biases, dtype, costs_on(device, dtype, precision))


def plan_descent(dims: tuple[int, ...], nnz: int, device: str, *, forms_product: bool = True) -> Plan:
    """Return the cheapest plan for the native steps of `dmf_fast.fit` on a chain of ``dims``.

    ``forms_product`` says whether ``W`` may be formed.

    >>> plan_descent((100, 100, 100), 2000, "cpu").split
    1
    """
    costs = DESCENT if device == "cpu" else DESCENT_BLOCK
    if forms_product:
        return _plan_chain(dims, nnz, 0, torch.float32, costs)
    plans = [_split_plan(dims, nnz, split, costs=costs) for split in range(1, len(dims) - 1)]
    return min(plans, key=lambda plan: plan.cost)


# As torch.compiler.assume_constant_result does, without importing torch._dynamo, which takes a second: a
# compiled graph calls the planner once, during tracing.
plan_chain._dynamo_marked_constant = True  # type: ignore[attr-defined]


@lru_cache(maxsize=1024)
def _plan_chain(dims: tuple[int, ...], nnz: int, biases: int, dtype: torch.dtype, costs: Costs) -> Plan:
    splits = [_split_plan(dims, nnz, split, biases, costs) for split in range(1, len(dims) - 1)]
    plans = splits if dtype.itemsize == 2 and splits else [_dense_plan(dims, nnz, costs), *splits]
    if (
        costs.tile_precision is not None
        and _native.describe_device_layout(dims[-1], dims[0], nnz)["has_masks"]
    ):
        plans += [_tile_plan(plan, biases, costs) for plan in splits if _fits_a_tile(plan, biases)]
    best = min(plans, key=lambda plan: plan.cost)
    return replace(best, alternatives=tuple((plan.name, plan.cost) for plan in plans))


def _split_plan(dims: tuple[int, ...], nnz: int, split: int, biases: int = 0, costs: Costs = CPU) -> Plan:
    left, right = _cheapest_order(dims, split, len(dims) - 1, costs), _cheapest_order(dims, 0, split, costs)
    h = dims[split] + biases
    padded_h = -(-h // costs.slice_width) * costs.slice_width
    sides = ITEM_BYTES * 2 * h * (dims[-1] + dims[0])  # A, B read, dA, dB written
    copies = 0 if padded_h == h else 2 * sides  # each read and written once more
    # Bᵀ is a product computed transposed, or, if B is a single factor, a transposing copy.
    transposed = ITEM_BYTES * 2 * h * dims[0] if split == 1 else 0
    moved = left.bytes + right.bytes + sides + copies
    cost = (
        costs.chain_flop * (left.flops + right.flops)
        + nnz * (costs.sweep_entry + costs.sweep_flop * 6.0 * padded_h)
        + costs.byte * moved
        + costs.transposed_byte * transposed
        + costs.split
    )
    return Plan(
        dims=dims,
        nnz=nnz,
        split=split,
        left=left.order,
        right=right.order,
        chain_flops=left.flops + right.flops,
        observed_flops=6.0 * nnz * h,
        bytes=moved + transposed + nnz * (costs.layout_bytes + ITEM_BYTES),
        cost=cost,
    )


def _fits_a_tile(plan: Plan, biases: int) -> bool:
    assert plan.split is not None
    return plan.dims[plan.split] + biases <= _native.widest_tile


def _tile_plan(plan: Plan, biases: int, costs: Costs) -> Plan:
    """Return ``plan`` with tiles in place of the sweep: two passes, 8 flops per cell and hidden unit."""
    assert plan.split is not None
    h = plan.dims[plan.split] + biases
    padded_h = -(-h // costs.slice_width) * costs.slice_width
    flops = 8.0 * plan.dims[0] * plan.dims[-1] * -(-h // _TILE_WIDTH_STEP) * _TILE_WIDTH_STEP
    sweep = plan.nnz * (costs.sweep_entry + costs.sweep_flop * 6.0 * padded_h)
    return replace(
        plan,
        observed_flops=flops,
        cost=plan.cost - sweep + costs.tile_flop * flops,
        tile_precision=costs.tile_precision,
    )


def _dense_plan(dims: tuple[int, ...], nnz: int, costs: Costs = CPU) -> Plan:
    chain = _cheapest_order(dims, 0, len(dims) - 1, costs)
    cells = dims[0] * dims[-1]
    products = costs.chain_flop * chain.flops + costs.byte * chain.bytes
    return Plan(
        dims=dims,
        nnz=nnz,
        split=None,
        left=chain.order,
        right=None,
        chain_flops=chain.flops,
        observed_flops=7.0 * nnz,
        # The gradient of W is cleared and filled while entries are compared.
        bytes=chain.bytes + 2 * ITEM_BYTES * cells + nnz * (costs.layout_bytes + 3 * ITEM_BYTES),
        cost=products + costs.dense_cell * cells + costs.dense_entry * nnz,
    )


@dataclass(frozen=True)
class _Chain:
    order: Order
    flops: float
    bytes: float


@lru_cache(maxsize=4096)
def _cheapest_order(dims: tuple[int, ...], first: int, last: int, costs: Costs = CPU) -> _Chain:
    """Return the best order for ``W_last … W_{first+1}``, of shape ``(dims[last], dims[first])``."""
    if last - first == 1:
        return _Chain(first, 0.0, 0.0)
    candidates = []
    for middle in range(first + 1, last):
        left = _cheapest_order(dims, middle, last, costs)
        right = _cheapest_order(dims, first, middle, costs)
        rows, inner, columns = dims[last], dims[middle], dims[first]
        # Three products of this size, one forward and two backward; each reads two matrices and writes one.
        flops = 6.0 * rows * inner * columns
        moved = 3.0 * ITEM_BYTES * (rows * inner + inner * columns + rows * columns)
        candidates.append(
            _Chain(
                (left.order, right.order), left.flops + right.flops + flops, left.bytes + right.bytes + moved
            )
        )
    return min(candidates, key=lambda chain: costs.chain_flop * chain.flops + costs.byte * chain.bytes)


def _show(order: Order | None) -> str:
    if isinstance(order, tuple):
        return "(" + "·".join(_show(side) for side in order) + ")"
    return "1" if order is None else f"W{order + 1}"


def _density(plan: Plan) -> float:
    return plan.nnz / max(1, plan.dims[0] * plan.dims[-1])
