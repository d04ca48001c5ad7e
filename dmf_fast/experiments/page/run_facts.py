"""Facts about how results were obtained: versions, machine, date."""

from __future__ import annotations

import os
import platform
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import torch

from dmf_fast.experiments.reproduction import Extent
from dmf_fast.info import active_instruction_set

_EXTENTS: dict[Extent, str] = {
    "quick": "quick: fewer seeds and steps than the full run",
    "full": "full",
    "paper-size": "full, matrix sensing at the paper's size",
}


def run_facts(extent: Extent, *, date: datetime | None = None) -> dict[str, str]:
    """Return the facts by name; ``date`` defaults to now.

    >>> run_facts("quick", date=datetime(2026, 1, 2, 15, 30))["date"]
    '2026-01-02 15:30'
    """
    return {
        "dmf_fast": version("dmf-fast"),
        "extent": _EXTENTS[extent],
        "date": (datetime.now() if date is None else date).strftime("%Y-%m-%d %H:%M"),
        "processor": f"{_processor()}, {os.cpu_count()} logical cores",
        "threads": str(torch.get_num_threads()),
        "instruction set": active_instruction_set(),
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "system": platform.system(),
    }


def _processor() -> str:
    """Return the model of the processor, which the standard library knows on few systems."""
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
