"""`python -m bench.gpu_limits`: what kind of GPU this is, and its own limits as they are measured."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

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


def measure(device: str) -> GpuLimits:
    """Measure a copy in device memory and large matrix products; small ones on a CPU."""
    copied, size = (COPIED_BYTES, MATRIX) if device == "cuda" else (1 << 20, 128)
    source = torch.ones(copied // 4, device=device)
    target = torch.empty_like(source)
    copy = median_seconds({"copy": lambda: target.copy_(source)}, ROUNDS, device)["copy"]
    exact, with_tf32 = (_product_teraflops(size, precision, device) for precision in ("highest", "high"))
    return GpuLimits(2 * copied / copy / 1e12, exact, with_tf32)


def _product_teraflops(size: int, precision: str, device: str) -> float:
    left, right = (torch.randn(size, size, device=device) for _ in range(2))
    product = torch.empty_like(left)
    with float32_products(precision):
        seconds = median_seconds({"product": lambda: torch.mm(left, right, out=product)}, ROUNDS, device)
    return 2 * size**3 / seconds["product"] / 1e12


def facts(device: str) -> dict[str, object]:
    """Return what kind of GPU this is and which software drives it."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    given = parser.parse_args()
    result = facts(given.device) | measure(given.device).as_dict()
    given.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
