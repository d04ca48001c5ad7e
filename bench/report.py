"""`python -m bench.report`: every case compared with its rivals and the machine's limits, in one run.

Rivals take turns, so that noise of the machine falls on all alike; medians are reported. Writes one JSON file
and a roofline next to it, and prints one table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import dmf_fast
from bench import machine, memory, roofline
from bench.cases import CASES, Case
from bench.record import origin, results_file
from bench.rivals import RIVALS, Pass
from bench.timing import median_seconds
from dmf_fast import info


def run_case(case: Case, limits: machine.MachineLimits) -> dict[str, object] | None:
    """Time all rivals of one case in turns."""
    problem = case.problem()
    if problem is None:
        return None
    passes = {name: RIVALS[name](problem) for name in case.rivals}
    check_agreement(passes)
    medians = median_seconds(passes, case.rounds)
    gflops = problem.flops / medians["dmf_fast"] / 1e9
    return {
        "problem": case.name,
        "nnz": problem.nnz,
        "h": problem.h,
        "milliseconds": {name: 1e3 * value for name, value in medians.items()},
        "ratio": {name: value / medians["dmf_fast"] for name, value in medians.items()},
        "gflops": gflops,
        "percent_of_fma_peak": 100 * gflops / limits.fma_gflops,
        "percent_of_fed_fma_peak": 100 * gflops / limits.fed_fma_gflops,
        "percent_of_l2_bound": 100 * gflops / l2_gflops(limits),
        "flops_per_dram_byte": problem.flops / problem.dram_bytes,
        "rounds": case.rounds,
    }


def l2_gflops(limits: machine.MachineLimits) -> float:
    """Return the rate at which 6h flops an entry keep up with reading two slices of h float32 from L2."""
    return limits.l2_gigabytes_per_second * 6 / (2 * 4)


def check_agreement(passes: dict[str, Pass]) -> None:
    """Warm every rival up and make sure that all compute the same thing."""
    expected = passes["dmf_fast"]()
    for name, one_pass in passes.items():
        for ours, theirs in zip(expected, one_pass(), strict=True):
            torch.testing.assert_close(
                theirs.double(), ours.double(), rtol=1e-3, atol=1e-3 * float(ours.abs().max()), msg=name
            )


def show(results: list[dict], limits: machine.MachineLimits) -> None:
    """Print the table."""
    console = Console(width=140)
    console.print(
        f"{limits.processor}, {limits.threads} threads: {limits.fma_gflops:.0f} GFLOP/s of float32 FMA "
        f"({limits.fed_fma_gflops:.0f} fed from L1), "
        f"L2 {limits.l2_gigabytes_per_second:.0f} GB/s, DRAM {limits.dram_gigabytes_per_second:.0f} GB/s"
    )
    rates = {
        "GFLOP/s": "gflops",
        "% of FMA": "percent_of_fma_peak",
        "% fed": "percent_of_fed_fma_peak",
        "% of L2": "percent_of_l2_bound",
    }
    table = Table("loss + dA + dB, float32", *rates, *(f"{name}, ms" for name in RIVALS))
    for result in results:
        times = [
            f"{result['milliseconds'][name]:.3g} ({result['ratio'][name]:.3g}×)"
            if name in result["milliseconds"]
            else "–"
            for name in RIVALS
        ]
        table.add_row(result["problem"], *(f"{result[key]:.1f}" for key in rates.values()), *times)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="JSON file; bench/results/DATE-sweep.json by default")
    parser.add_argument("--only", help="run the cases whose name contains this text; writes no default file")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    limits = machine.measure(arguments.threads)
    cases = [case for case in CASES if not arguments.only or arguments.only in case.name]
    results = [result for case in cases if (result := run_case(case, limits)) is not None]
    show(results, limits)
    report = {
        **origin(),
        "dmf_fast": dmf_fast.__version__,
        "torch": torch.__version__,
        "instruction_set": info.active_instruction_set(),
        "machine": limits.as_dict(),
        "l2_gflops": l2_gflops(limits),
        "cases": results,
    }
    if not arguments.only:
        report["memory"] = memory.measure()
        print("memory at 10M entries, h 64:", json.dumps(report["memory"], indent=1))
    output = arguments.output or (None if arguments.only else results_file("sweep"))
    if output:
        roofline.draw(report, output.with_suffix(".png"))
        output.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
