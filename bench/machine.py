"""The machine's own limits, measured in the run that reports them."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median

SOURCE = Path(__file__).with_name("machine_limits.cpp")


@dataclass(frozen=True)
class MachineLimits:
    """Medians of several measurements with `threads` threads."""

    processor: str
    threads: int
    fma_gflops: float
    fed_fma_gflops: float  # with the sweep's own loads, from L1
    l2_gigabytes_per_second: float
    dram_gigabytes_per_second: float

    def as_dict(self) -> dict[str, object]:
        """Return the fields, for JSON."""
        return asdict(self)


def measure(threads: int) -> MachineLimits:
    """Measure float32 multiply-adds, in registers and fed from L1, and reads from L2 and DRAM."""
    library = _library()
    fma = median(library.fma_peak(threads, 4_000_000) for _ in range(5))
    fed = median(library.fed_fma_peak(threads, 4_000_000) for _ in range(5))
    l2 = median(library.read_bandwidth(threads, 256 * 1024, 4000) for _ in range(5))
    dram = median(library.read_bandwidth(threads, 256 * 1024 * 1024, 2) for _ in range(3))
    return MachineLimits(_processor(), threads, fma / 1e9, fed / 1e9, l2 / 1e9, dram / 1e9)


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "machine_limits.so"
        compiler = os.environ.get("CXX", "c++")
        subprocess.run(
            [
                compiler,
                "-O3",
                "-march=native",
                "-ffast-math",
                "-shared",
                "-fPIC",
                "-pthread",
                SOURCE,
                "-o",
                built,
            ],
            check=True,
        )
        library = ctypes.CDLL(str(built))
    for peak in (library.fma_peak, library.fed_fma_peak):
        peak.restype = ctypes.c_double
        peak.argtypes = [ctypes.c_int, ctypes.c_int64]
    library.read_bandwidth.restype = ctypes.c_double
    library.read_bandwidth.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return library


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
