"""The kind of GPU, and its measured limits."""

from __future__ import annotations

import torch

from bench.precision import float32_products
from bench.timing import median_seconds

COPIED_BYTES = 1 << 30
MATRIX = 8192
ROUNDS = 5


def measure(device: str) -> dict[str, object]:
    """Return facts, and terabytes that are read and written a second; of small things on a CPU."""
    copied, size = (COPIED_BYTES, MATRIX) if device == "cuda" else (1 << 20, 128)
    source = torch.ones(copied // 4, device=device)
    target = torch.empty_like(source)
    copy = median_seconds({"copy": lambda: target.copy_(source)}, ROUNDS, device)["copy"]
    return {
        **facts(device),
        "copy_terabytes_per_second": 2 * copied / copy / 1e12,
        "float32_teraflops": _product_teraflops(size, "highest", device),
        "tf32_teraflops": _product_teraflops(size, "high", device),
    }


def _product_teraflops(size: int, precision: str, device: str) -> float:
    left, right = (torch.randn(size, size, device=device) for _ in range(2))
    product = torch.empty_like(left)
    with float32_products(precision):
        seconds = median_seconds({"product": lambda: torch.mm(left, right, out=product)}, ROUNDS, device)
    return 2 * size**3 / seconds["product"] / 1e12


def facts(device: str) -> dict[str, object]:
    """Return the GPU's sizes and which software drives it."""
    if device == "cpu":
        return {"name": "cpu", "torch": torch.__version__}
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "l2_megabytes": properties.L2_cache_size / 1e6,
        "memory_gigabytes": properties.total_memory / 1e9,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }
