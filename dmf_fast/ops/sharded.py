"""The loss over rows that several processes share, and its gradients.

Every process computes the loss of its rows from its rows of ``W_N`` and all other factors. The loss is the
sum over the processes, and so are the gradients of the factors that they have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dmf_fast.observations import Observations
from dmf_fast.sharding import RowSharding, is_sharded, local_part, tree_sum


def chains_of_parts(
    factors: Sequence[Tensor],
    observations: Observations,
    row_bias: Tensor | None,
    column_bias: Tensor | None,
) -> list[tuple[Observations, list[Tensor], Tensor | None, Tensor | None]]:
    """Return the entries, factors and biases of each part of the rows of this process; differentiable.

    Args:
        factors: ``[W_1, …, W_N]``: `DTensor`s, the last of which is sharded by rows, or their local parts.
        observations: the entries.
        row_bias: ``(m,)``, sharded like the last factor; or None.
        column_bias: ``(n,)``, or None.

    Raises:
        ValueError: the last factor does not have as many rows as the entries of this process.

    """
    sharding = observations.sharding
    last, rows = local_part(factors[-1]), sum(part.shape[0] for part in observations.parts)
    depth = len(factors)
    if last.shape[0] != rows:
        raise ValueError(
            f"`factors[{depth - 1}]` must have the {rows} rows of this process, got {last.shape[0]}; "
            "shard it by rows over the mesh of the observations"
        )
    of_parts = _shared_out(sharding, [*factors[:-1], *([] if column_bias is None else [column_bias])])
    last_of_parts = sharding.split(last)
    bias_of_parts = [None] * sharding.part_count if row_bias is None else sharding.split(local_part(row_bias))
    return [
        (
            part,
            [*own[: depth - 1], own_last],
            own_bias,
            None if column_bias is None else own[-1],
        )
        for part, own, own_last, own_bias in zip(
            observations.parts, of_parts, last_of_parts, bias_of_parts, strict=True
        )
    ]


def total_loss(sharding: RowSharding, losses: Sequence[Tensor]) -> Tensor:
    """Return the sum of the losses of all parts of all processes, accumulated in float64.

    >>> total_loss(RowSharding(part_count=2), [torch.tensor(1.0), torch.tensor(2.0)])
    tensor(3.)
    """
    total: Tensor = _TotalLoss.apply(sharding, *losses)  # type: ignore[no-untyped-call]
    return total


def _shared_out(sharding: RowSharding, shared: Sequence[Tensor]) -> list[list[Tensor]]:
    """Return the whole tensors, once per part; their gradients are added up over parts and processes."""
    if not shared:
        return [[] for _ in range(sharding.part_count)]
    summed_later = [is_sharded(tensor) for tensor in shared]
    whole = [_gathered(tensor) for tensor in shared]
    every = _SharedOut.apply(sharding, summed_later, *whole)  # type: ignore[no-untyped-call]
    return [list(every[part :: sharding.part_count]) for part in range(sharding.part_count)]


def _gathered(tensor: Tensor) -> Tensor:
    """Gather a `DTensor`; if it is sharded, its gradients are reduced to the shards."""
    if not is_sharded(tensor):
        return local_part(tensor)
    from torch.distributed.tensor import DTensor, Partial, Replicate

    assert isinstance(tensor, DTensor)
    return tensor.redistribute(placements=[Replicate()]).to_local(grad_placements=[Partial()])


class _SharedOut(torch.autograd.Function):
    """Each tensor once per part, with gradients added up."""

    @staticmethod
    def forward(
        ctx: Any, sharding: RowSharding, summed_later: list[bool], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.sharding, ctx.summed_later = sharding, summed_later
        ctx.set_materialize_grads(False)
        return tuple(tensor.view_as(tensor) for tensor in tensors for _ in range(sharding.part_count))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        sharding: RowSharding = ctx.sharding
        totals: list[Tensor | None] = []
        for begin in range(0, len(gradients), sharding.part_count):
            own = [one for one in gradients[begin : begin + sharding.part_count] if one is not None]
            total = own[0].clone() if len(own) == 1 else tree_sum(own) if own else None
            totals.append(None if total is None else total.contiguous())
        here = zip(totals, ctx.summed_later, strict=True)
        sharding.add_up([total for total, later in here if total is not None and not later])
        return (None, None, *totals)


class _TotalLoss(torch.autograd.Function):
    """The sum of losses over parts and processes; each loss gets the gradient of the sum."""

    @staticmethod
    def forward(ctx: Any, sharding: RowSharding, *losses: Tensor) -> Tensor:
        ctx.parts = len(losses)
        return sharding.total([loss.double() for loss in losses]).to(losses[0].dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        return (None, *[gradient] * ctx.parts)
