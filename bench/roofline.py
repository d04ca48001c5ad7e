"""Draws a report's cases under the roofs of its machine: `python -m bench.roofline REPORT FIGURE`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw GFLOP/s against flops a byte of DRAM: every operand read once and every gradient written once."""
    machine = report["machine"]
    intensity = np.geomspace(0.5, 200, 100)
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    dram_roof = np.minimum(machine["dram_gigabytes_per_second"] * intensity, machine["fma_gflops"])
    axes.loglog(intensity, dram_roof, color="black", label="DRAM and FMA")
    axes.axhline(
        report["l2_gflops"], color="gray", linestyle="--", label="two slices of h numbers an entry from L2"
    )
    if "fed_fma_gflops" in machine:
        axes.axhline(
            machine["fed_fma_gflops"], color="gray", linestyle=":", label="FMA with operands from L1"
        )
    for case in report["cases"]:
        axes.plot(case["flops_per_dram_byte"], case["gflops"], "o", label=case["problem"])
    axes.set(
        xlabel="flops a byte of DRAM",
        ylabel="GFLOP/s",
        title=f"Loss + dA + dB, float32, {machine['processor']}, {machine['threads']} threads",
    )
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("figure", type=Path)
    arguments = parser.parse_args()
    draw(json.loads(arguments.report.read_text()), arguments.figure)


if __name__ == "__main__":
    main()
