"""What the steps of a pass cost on a device: the numbers that the planner works with.

All costs are in flops of a float32 BLAS product on the same device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch


@dataclass(frozen=True)
class Costs:
    """Costs of the two plans' steps.

    Attributes:
        chain_flop: a flop of a product of factors.
        sweep_flop: a flop of the sweep over the observed entries.
        sweep_entry: what the sweep needs besides for an entry.
        byte: a byte that a product reads or writes.
        transposed_byte: a byte of a copy that transposes.
        dense_entry: where W is formed, an observed entry.
        dense_cell: where W is formed, a cell of it.
        split: what a split costs however small it is.
        slice_width: the sweep works on multiples of this; other h make it copy A, B and their gradients.
        layout_bytes: bytes of layout that the sweep reads for an entry.
        tile_flop: a flop of the dense tiles on the tensor cores.
        tile_precision: what the tiles round numbers to; None where there are no such tiles.

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

# Measured for native runs, whose steps call and clear nothing (`python -m bench.steps`): a product of
# 100 × 100 matrices makes 160 flops a nanosecond, the passes at the split take 6.5 ns an entry at h 100.
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

# By count, for a block of a GPU that makes whole runs: a product of 100 × 100 matrices takes 10,200 cycles,
# an observed entry at h 100 about 10.5: not measured.
DESCENT_BLOCK = replace(DESCENT, sweep_flop=2.9, sweep_entry=100.0, dense_entry=260.0, byte=0.0)

# By count, for a GPU with 50 TFLOP/s of float32 and caches of 3.3 TB/s: not measured. An entry gathers two
# rows of h numbers of 4 bytes, 8 h bytes for 6 h flops, and 42 bytes besides; a formed W three sectors of 32.
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

# Tensor cores at four times the rate of float32, three products where nothing may be lost; the same ratio for
# the products of the chain. By count as well.
_TENSOR_CORE_FLOP = 0.25
_TILE_PRODUCTS = {"tf32x3": 3.0, "tf32": 1.0}


def matmul_precision(device: str, dtype: torch.dtype) -> str:
    """Return how exactly torch multiplies factors of ``dtype`` on ``device`` at present.

    ``"highest"``, ``"high"`` or ``"medium"`` as :func:`torch.get_float32_matmul_precision` names them,
    whether they were set there or with ``torch.backends.cuda.matmul.fp32_precision``. A graph of
    torch.compile keeps what held when it was traced.

    Example:
        >>> matmul_precision("cpu", torch.float32)
        'highest'

    """
    if device != "cuda" or dtype != torch.float32:
        return "highest"
    # torch.get_float32_matmul_precision raises where the newer setting was used.
    allows_tf32 = torch.backends.cuda.matmul.fp32_precision == "tf32"
    try:
        legacy = torch.get_float32_matmul_precision()
    except RuntimeError:
        return "high" if allows_tf32 else "highest"
    return str(legacy) if allows_tf32 or legacy == "highest" else "highest"


# What torch.compiler.assume_constant_result does, without the second that importing torch._dynamo takes: no
# graph asks torch for its settings.
matmul_precision._dynamo_marked_constant = True  # type: ignore[attr-defined]


@lru_cache(maxsize=64)
def costs_on(device: str, dtype: torch.dtype, precision: str) -> Costs:
    """Return the costs on ``device`` (``"cpu"`` or ``"cuda"``) for factors of ``dtype``.

    ``precision`` is that of :func:`matmul_precision`: ``"highest"`` keeps float32's own accuracy, ``"high"``
    and ``"medium"`` allow TF32 for the products of float32 factors; tiles never round to bfloat16. Numbers of
    16 bits are TF32 numbers as they are.

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
