"""How often every value occurs among the observed entries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmf_fast.observations import Observations
from dmf_fast.ops.statistics import value_range

MOST_DISTINCT = 20  # up to this many distinct values, such as half stars, get a bin each
_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class ValueBin:
    """The entries whose values lie between ``lowest`` and ``highest``, which one value has in common."""

    lowest: float
    highest: float
    count: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return asdict(self)


def value_histogram(observations: Observations) -> tuple[ValueBin, ...]:
    """Return a histogram of the values: one bin per value, or 20 bins of equal width.

    Each value has its own bin if there are at most 20 distinct values. Weights are ignored. If processes
    share the rows, the result covers all of them.

    Example:
        >>> [part.count for part in value_histogram(Observations([0, 1, 1], [0, 0, 1], [5.0, 1.0, 5.0]))]
        [1, 2]

    """
    distinct = _distinct(observations)
    if len(distinct) <= MOST_DISTINCT:
        lower = upper = distinct
    else:
        edges = np.linspace(*value_range(observations), MOST_DISTINCT + 1)
        lower, upper = edges[:-1], edges[1:]
    counts = np.zeros(len(lower), dtype=np.int64)
    for chunk in _chunks(observations):
        places = torch.bucketize(chunk.double(), torch.from_numpy(lower).to(chunk.device), right=True) - 1
        counts += torch.bincount(places.clamp_(min=0), minlength=len(counts)).cpu().numpy()
    observations.sharding.add_up_arrays([counts])
    return tuple(ValueBin(*row) for row in zip(lower.tolist(), upper.tolist(), counts.tolist(), strict=True))


def _distinct(observations: Observations) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the distinct values in ascending order, or more than 20 of them."""
    known = torch.empty(0, dtype=observations.dtype, device=observations.device)
    for chunk in _chunks(observations):
        new = chunk[~torch.isin(chunk, known)]
        while len(new) and len(known) <= MOST_DISTINCT:
            known = torch.cat([known, torch.unique(new[:1024])])
            new = new[~torch.isin(new, known)]
    padded = torch.full((MOST_DISTINCT + 1,), torch.nan, dtype=torch.float64, device="cpu")
    padded[: len(known)] = known[: len(padded)]
    of_all = torch.stack(observations.sharding.gathered([padded]))
    return np.unique(of_all[~of_all.isnan()].numpy())


def _chunks(observations: Observations) -> Iterator[Tensor]:
    return (chunk for part in observations.parts for chunk in torch.split(part.layout().values, _AT_ONCE))
