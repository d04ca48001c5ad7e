"""Initial factors, of which each process draws its own rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dmf_fast.checks import one_of
from dmf_fast.distributed.row_blocks import RowBlocks
from dmf_fast.initialization import initialize, normal_numbers, standard_deviation, uniform_numbers
from dmf_fast.observations import Observations
from dmf_fast.sharding import SHARDED_COLUMNS_FROM

_INDEPENDENT = {"gaussian": normal_numbers, "uniform": uniform_numbers}


def initial_factors(
    observations: Observations,
    dims: Sequence[int],
    init_scale: float,
    initialization: str = "gaussian",
    *,
    seed: int,
) -> list[Tensor]:
    """Return initial factors ``[W_1, …, W_N]`` of the dtype and on the device of ``observations``.

    If processes share the rows, they are `DTensor`s: ``W_N`` is sharded by rows, and the draws of each block
    depend only on ``seed`` and its index; the others are replicated. A ``W_1`` of 2²⁸ numbers or more is
    sharded by columns: each process keeps and updates a part of it, and gathers the others in each step.

    Args:
        observations: the entries to train on.
        dims: ``(d_0, …, d_N)`` = (columns ``n``, hidden widths, rows ``m``).
        init_scale: see `dmf_fast.initialization.initialize`.
        initialization: see `dmf_fast.initialization.initialize`; for row blocks ``"gaussian"`` or
            ``"uniform"``, whose entries are independent.
        seed: of the draws.

    Raises:
        TypeError, ValueError: as for `dmf_fast.initialization.initialize`, or row blocks are combined with
            another initialization.

    Example:
        >>> train = Observations([0, 1], [0, 1], [1.0, 2.0], shape=(4, 3))
        >>> [tuple(factor.shape) for factor in initial_factors(train, (3, 2, 4), 0.1, seed=0)]
        [(2, 3), (4, 2)]

    """
    kept = {"dtype": observations.dtype, "device": observations.device}
    if not isinstance(observations, RowBlocks):
        return initialize(initialization, dims, init_scale, seed=seed, **kept)  # type: ignore[arg-type]
    drawn = _INDEPENDENT[one_of("initialization", initialization, tuple(_INDEPENDENT))]
    deviation = standard_deviation(dims, init_scale)
    generator = torch.Generator().manual_seed(seed)
    shared = [drawn((rows, columns), deviation, generator) for columns, rows in pairwise(dims[:-1])]
    last = torch.cat(
        [
            drawn((observations.rows_a_block, dims[-2]), deviation, own)
            for own in observations.generators(seed)
        ]
    )
    last[~observations.row_is_there] = 0
    sharding = observations.sharding
    factors = [sharding.replicated(factor.to(**kept)) for factor in shared]  # type: ignore[call-overload]
    if shared and shared[0].numel() >= SHARDED_COLUMNS_FROM:
        factors[0] = sharding.sharded_by_columns(factors[0])
    return [*factors, sharding.sharded(last.to(**kept))]  # type: ignore[call-overload]
