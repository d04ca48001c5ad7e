"""The GPU's own limits, measured in the run that reports them, and what kind of GPU it is."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

import torch

from bench.precision import float32_products
from bench.timing import median_seconds

COPIED_BYTES = 1 << 30
MATRIX = 8192
ROUNDS = 5


@dataclass(frozen=True)
class GpuLimits:
    """Medians of several measurements."""

    copy_terabytes_per_second: float  # bytes read and bytes written
    float32_teraflops: float  # of a large matrix product
    tf32_teraflops: float

    def as_dict(self) -> dict[str, float]:
        """Return the fields, for JSON."""
        return asdict(self)


def measure() -> GpuLimits:
    """Measure a copy in device memory and large matrix products."""
    source = torch.ones(COPIED_BYTES // 4, device="cuda")
    target = torch.empty_like(source)
    copy = median_seconds({"copy": lambda: target.copy_(source)}, ROUNDS, "cuda")["copy"]
    terabytes_per_second = 2 * COPIED_BYTES / copy / 1e12
    return GpuLimits(terabytes_per_second, _product_teraflops("highest"), _product_teraflops("high"))


def _product_teraflops(precision: str) -> float:
    left, right = (torch.randn(MATRIX, MATRIX, device="cuda") for _ in range(2))
    product = torch.empty_like(left)
    with float32_products(precision):
        seconds = median_seconds({"product": lambda: torch.mm(left, right, out=product)}, ROUNDS, "cuda")
    return 2 * MATRIX**3 / seconds["product"] / 1e12


def facts() -> dict[str, object]:
    """Return what kind of GPU this is and which software drives it."""
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


def short_name(name: str) -> str:
    """Return the model in a GPU's name, for a file: the first word with a digit."""
    model = re.search(r"[A-Za-z]*\d\w*", name)
    return (model.group() if model else "gpu").lower()
