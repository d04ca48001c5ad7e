"""QR decompositions of tall matrices whose rows are split into parts or over several processes."""

from __future__ import annotations

import torch
from torch import Tensor

from dmf_fast.sharding import RowSharding
from dmf_fast.threads import one_thread


def householder_qr(block: Tensor, sharding: RowSharding) -> tuple[Tensor, Tensor]:
    """Return the rows of ``Q`` of this process, and ``R``, given its rows of an ``(m, k)`` matrix.

    Each part is decomposed, then the stacked triangles are: Demmel, Grigori, Hoemmen & Langou,
    "Communication-optimal Parallel and Sequential QR and LU Factorizations" (2012).

    >>> block = torch.tensor([[3.0], [4.0]])
    >>> [householder_qr(block, RowSharding(part_count=parts))[1].abs().item() for parts in (1, 2)]
    [5.0, 5.0]
    """
    with one_thread():
        if sharding.is_whole:
            basis, triangle = torch.linalg.qr(block)
            return basis, triangle
        parts, size = sharding.split(block), block.shape[1]
        of_parts = [torch.linalg.qr(_padded(part, size)) for part in parts]
        basis, triangle = torch.linalg.qr(torch.cat(sharding.gathered([own.R for own in of_parts])))
        turns = basis.split(size)[sharding.rank * sharding.part_count :]
        sides = [(own.Q @ turn)[: len(part)] for own, turn, part in zip(of_parts, turns, parts, strict=False)]
        whole = torch.cat(sides)
        whole[(block == 0).all(1)] = 0  # rows of zeros, which pad the blocks, stay zero
        return whole, triangle


def _padded(part: Tensor, rows: int) -> Tensor:
    """Return ``part``, padded with rows of zeros to at least ``rows`` rows."""
    return torch.nn.functional.pad(part, (0, 0, 0, max(0, rows - len(part))))
