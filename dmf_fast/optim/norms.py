"""Norms of parameters and gradients, which may be sharded over processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_fast.sharding import is_sharded, local_part

# Below this, squares underflow in float32.
_LEAST_NORM = 1e-16


@torch.no_grad()
def norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return the norm of each tensor, float64 on the CPU; for a sharded `DTensor` that of all shards.

    If a tensor is sharded, this is a collective operation.

    >>> norms([torch.tensor([3.0, 4.0]), torch.zeros(2)])
    tensor([5., 0.], dtype=torch.float64)
    """
    # In 16 bits, the norm would overflow or lose most of its digits.
    own = [local_part(tensor) for tensor in tensors]
    own = [tensor if tensor.element_size() >= 4 else tensor.float() for tensor in own]
    found = torch.stack([norm.double() for norm in torch._foreach_norm(own)]).cpu()
    for place in ((found < _LEAST_NORM) | found.isinf()).nonzero()[:, 0].tolist():
        if own[place].dtype != torch.float64:
            found[place] = own[place].double().norm()
    return _of_all(found, tensors)


def norm(of_each: Tensor) -> float:
    """Return the norm of all tensors together, given the norm of each.

    >>> norm(torch.tensor([3.0, 4.0]))
    5.0
    """
    return float(of_each.norm())


def _of_all(found: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """Return the norms of whole tensors, given those of their local shards."""
    places = [place for place, tensor in enumerate(tensors) if is_sharded(tensor)]
    if not places:
        return found
    from torch import distributed

    mesh = tensors[places[0]].device_mesh  # type: ignore[attr-defined]
    squares = found[places].square().to(mesh.device_type)
    distributed.all_reduce(squares, group=mesh.get_group())
    found[places] = squares.sqrt().cpu()
    return found
