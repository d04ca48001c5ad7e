"""The small ratings that tests of jobs train on."""

from __future__ import annotations

import torch

from dmf_fast import Observations


def ratings(seed: int = 0, noise: float = 0.3) -> Observations:
    """Entries of biases and rank 1 with noise, around 3.5."""
    generator = torch.Generator().manual_seed(seed)
    sides = [torch.randn(size, generator=generator) for size in (40, 30, 40, 30)]
    dense = 3.5 + 0.5 * (sides[0][:, None] + sides[1]) + sides[2][:, None] * sides[3]
    dense += noise * torch.randn(dense.shape, generator=generator)
    rows, columns = (torch.rand(dense.shape, generator=generator) < 0.5).nonzero(as_tuple=True)
    return Observations(rows, columns, dense[rows, columns], dense.shape)
