"""Row blocks for tests, the same for any number of processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from dmf_fast import Observations
from dmf_fast.distributed import RowBlocks

BLOCKS, ROWS, COLUMNS = 4, 12, 15


def block(number: int, *, weighted: bool = False, dtype: torch.dtype = torch.float64) -> Observations:
    """Return the entries of a block: of a product of rank 2 with some noise, and a row without any."""
    shared, own = np.random.default_rng(0), np.random.default_rng(100 + number)
    right = shared.normal(size=(2, COLUMNS))
    values = 3 + own.normal(size=(ROWS, 2)) @ right + 0.1 * own.normal(size=(ROWS, COLUMNS))
    is_observed = own.random((ROWS, COLUMNS)) < 0.5
    is_observed[number] = False
    rows, columns = is_observed.nonzero()
    weights = own.uniform(0.5, 2.0, len(rows)) if weighted else None
    shape = (ROWS, COLUMNS)
    return Observations(rows, columns, values[rows, columns], shape, weights=weights, dtype=dtype)


def row_blocks(mesh: Any = None, *, reproducible: bool = False, **options: Any) -> RowBlocks:
    """Return the blocks of this process; blocks as small as these are refused where each is swept alone."""
    size = 1 if mesh is None else mesh.size()
    rank = 0 if mesh is None else mesh.get_local_rank()
    each = BLOCKS // size
    own = [block(number, **options) for number in range(rank * each, (rank + 1) * each)]
    return RowBlocks(own, mesh, reproducible=reproducible, origin="a test")


def whole(**options: Any) -> Observations:
    """Return the entries of all blocks as those of one matrix."""
    parts = [block(number, **options) for number in range(BLOCKS)]
    weights = [part.weights for part in parts if part.weights is not None]
    return Observations(
        torch.cat([part.rows + number * ROWS for number, part in enumerate(parts)]),
        torch.cat([part.columns for part in parts]),
        torch.cat([part.values for part in parts]),
        (BLOCKS * ROWS, COLUMNS),
        weights=torch.cat(weights) if weights else None,
    )
