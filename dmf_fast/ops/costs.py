"""Costs of the steps of a pass on each device, from which the planner computes the cost of a plan.

The unit is one flop of a float32 BLAS product on the same device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch


@dataclass(frozen=True)
class Costs:
    """Unit costs of the steps of a plan.

    Attributes:
        chain_flop: per flop of a product of factors.
        sweep_flop: per flop of the sweep over the observed entries.
        sweep_entry: per observed entry of the sweep, in addition to its flops.
        byte: per byte that a product reads or writes.
        transposed_byte: per byte of a transposing copy.
        dense_entry: per observed entry if W is formed.
        dense_cell: per cell of W if W is formed.
        split: fixed cost of a split.
        slice_width: the sweep requires h to be a multiple of this, else it copies A, B and their gradients.
        layout_bytes: bytes of the layout that the sweep reads per entry.
        tile_flop: per flop of the dense tiles on the tensor cores.
        tile_precision: precision to which the tiles round their inputs; None if there are no tiles.

    """

    chain_flop: float
    sweep_flop: float
    sweep_entry: float
    byte: float
    transposed_byte: float
    dense_entry: float
    dense_cell: float
    split: float
    slice_width: int
    layout_bytes: int
    tile_flop: float = 0.0
    tile_precision: str | None = None


# Measured (`python -m bench.planner_grid`).
CPU = Costs(
    chain_flop=1.0,
    sweep_flop=1.9,
    sweep_entry=120.0,
    byte=4.0,
    transposed_byte=26.0,
    dense_entry=190.0,
    dense_cell=110.0,
    split=9e6,
    slice_width=16,
    layout_bytes=11,
)

# Measured for native runs, whose steps make no calls and clear no memory (`python -m bench.steps`): a product
# of 100 × 100 matrices runs at 160 flops/ns, and the passes at the split take 6.5 ns per entry at h = 100.
DESCENT = Costs(
    chain_flop=1.0,
    sweep_flop=1.7,
    sweep_entry=80.0,
    byte=1.0,
    transposed_byte=0.0,
    dense_entry=400.0,
    dense_cell=0.0,
    split=0.0,
    slice_width=16,
    layout_bytes=12,
)

# Counted, not measured, for a thread block of a GPU that executes whole runs: a product of 100 × 100 matrices
# takes 10,200 cycles, and an observed entry about 10.5 at h = 100.
DESCENT_BLOCK = replace(DESCENT, sweep_flop=2.9, sweep_entry=100.0, dense_entry=260.0, byte=0.0)

# Counted, not measured, for a GPU with 50 TFLOP/s of float32 and caches of 3.3 TB/s. An entry gathers two
# rows of h 4-byte numbers, 8 h bytes for 6 h flops, plus 42 bytes; if W is formed, three sectors of 32 bytes.
CUDA = Costs(
    chain_flop=1.0,
    sweep_flop=20.0,
    sweep_entry=640.0,
    byte=15.0,
    transposed_byte=15.0,
    dense_entry=1440.0,
    dense_cell=60.0,
    split=0.0,
    slice_width=4,
    layout_bytes=12,
)

# Tensor cores run at four times the rate of float32 and need three products to keep its accuracy; the same
# ratio holds for the products of the chain. Counted as well.
_TENSOR_CORE_FLOP = 0.25
_TILE_PRODUCTS = {"tf32x3": 3.0, "tf32": 1.0}


def matmul_precision(device: str, dtype: torch.dtype) -> str:
    """Return the precision to which torch currently multiplies factors of ``dtype`` on ``device``.

    It is ``"highest"``, ``"high"`` or ``"medium"``, as in :func:`torch.get_float32_matmul_precision`, whether
    it was set by `torch.set_float32_matmul_precision` or ``torch.backends.cuda.matmul.fp32_precision``. A
    graph of torch.compile keeps the precision at the time of tracing.

    Example:
        >>> matmul_precision("cpu", torch.float32)
        'highest'

    """
    if device != "cuda" or dtype != torch.float32:
        return "highest"
    # torch.get_float32_matmul_precision raises an error if the newer setting was used.
    allows_tf32 = torch.backends.cuda.matmul.fp32_precision == "tf32"
    try:
        legacy = torch.get_float32_matmul_precision()
    except RuntimeError:
        return "high" if allows_tf32 else "highest"
    return str(legacy) if allows_tf32 or legacy == "highest" else "highest"


# As torch.compiler.assume_constant_result does, without importing torch._dynamo, which takes a second: graphs
# do not query the settings of torch.
matmul_precision._dynamo_marked_constant = True  # type: ignore[attr-defined]


@lru_cache(maxsize=64)
def costs_on(device: str, dtype: torch.dtype, precision: str) -> Costs:
    """Return the costs on ``device`` (``"cpu"`` or ``"cuda"``) for factors of ``dtype``.

    ``precision`` is that of :func:`matmul_precision`: ``"highest"`` keeps the accuracy of float32, ``"high"``
    and ``"medium"`` allow TF32 for products of float32 factors. Tiles never round to bfloat16. All 16-bit
    numbers are representable in TF32.

    Example:
        >>> costs_on("cuda", torch.float32, "high").tile_precision
        'tf32'

    """
    if device != "cuda":
        return CPU
    if dtype == torch.float64:
        return CUDA
    exact = dtype == torch.float32 and precision == "highest"
    tile_precision = "tf32x3" if exact else "tf32"
    return replace(
        CUDA,
        chain_flop=1.0 if exact else _TENSOR_CORE_FLOP,
        tile_flop=_TENSOR_CORE_FLOP * _TILE_PRODUCTS[tile_precision],
        tile_precision=tile_precision,
    )
