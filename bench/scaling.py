"""`python -m bench.scaling`: how the sweep's time grows with |Ω| and h, with odd widths and other dtypes.

Also the time to build a layout, and Netflix's shape with 100M entries in 24 GB. Each group of measurements
takes turns; medians. Writes one JSON file. `--small` skips cases that need more than 2 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from bench import machine
from bench.problems import MILLION, NETFLIX, TEN_MILLION, Problem, skewed
from bench.record import origin, results_file
from bench.timing import median_seconds
from dmf_fast import Observations, info
from dmf_fast.observations.layout import build_layout

WIDTHS = (32, 64, 128, 256, 512)
ROUNDS = 5
ODD_WIDTHS = (1, 7, 17, 33, 50, 66, 100, 130, 250, 500, 1000)


def sweep_of(observations: Observations, h: int, dtype: torch.dtype = torch.float32) -> Callable[[], object]:
    """Return one pass: loss and both gradients."""
    generator = torch.Generator().manual_seed(1)
    observations = observations.to(dtype=dtype)
    a = (torch.randn(observations.shape[0], h, generator=generator) / h**0.5).to(dtype)
    b_transposed = torch.randn(observations.shape[1], h, generator=generator).to(dtype)
    layout = observations.layout()
    operator = torch.ops.dmf_fast.completion_loss_gradients
    return lambda: operator(a, b_transposed, layout.buffer, layout.values, None, 1.0)


def slope(seconds: dict[object, float]) -> float:
    """Return the slope of log time in log size."""
    return float(np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0])


def widths(observations: Observations) -> dict[str, object]:
    seconds = median_seconds({h: sweep_of(observations, h) for h in WIDTHS}, ROUNDS)
    return {"seconds": seconds, "log_log_slope": slope(seconds)}


def odd_widths(observations: Observations) -> dict[str, object]:
    """Compare every odd width with the next multiple of 16."""
    times = {}
    for h in ODD_WIDTHS:
        passes = {h: sweep_of(observations, h), "next": sweep_of(observations, -(-h // 16) * 16)}
        pair = median_seconds(passes, ROUNDS)
        times[h] = 100 * (pair[h] / pair["next"] - 1)
    return {"percent_more_than_next_multiple_of_16": times}


def dtypes(observations: Observations, h: int) -> dict[str, object]:
    """Compare the rates of other dtypes with that of float32."""
    names = {
        "float32": torch.float32,
        "float64": torch.float64,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
    }
    seconds = median_seconds(
        {name: sweep_of(observations, h, dtype) for name, dtype in names.items()}, ROUNDS
    )
    return {name: seconds["float32"] / seconds[name] for name in names}


def building(problem: Problem) -> dict[str, float]:
    """Time the layout alone, and all of Observations with its checks."""
    rows, columns = problem.rows.int().numpy(), problem.columns.int().numpy()
    layout, whole = [], []
    for _ in range(3):
        start = time.perf_counter()
        buffer = build_layout(rows, columns, problem.shape)
        layout.append(time.perf_counter() - start)
        start = time.perf_counter()
        Observations(rows, columns, problem.values, problem.shape).layout()
        whole.append(time.perf_counter() - start)
    return {
        "layout_seconds": median(layout),
        "observations_seconds": median(whole),
        "layout_bytes_per_entry": len(buffer) / problem.nnz,
    }


def netflix() -> dict[str, object]:
    """100M entries: time of a pass, bytes of layout, peak memory of this process since its start."""
    problem = skewed(*NETFLIX, h=1)
    rows, columns, values = problem.rows.int(), problem.columns.int(), problem.values
    start = time.perf_counter()
    observations = Observations(rows, columns, values, problem.shape)
    buffer = observations.layout().buffer
    built = time.perf_counter() - start
    seconds = median_seconds({64: sweep_of(observations, 64)}, 3)[64]
    return {
        "seconds": seconds,
        "gflops": 6 * 64 * observations.nnz / seconds / 1e9,
        "observations_seconds": built,
        "layout_bytes_per_entry": buffer.numel() / observations.nnz,
        "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=results_file("scaling"))
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    limits = machine.measure(torch.get_num_threads())
    million = skewed(*MILLION, h=1).observations()
    report: dict[str, object] = {
        **origin(),
        "instruction_set": info.active_instruction_set(),
        "machine": limits.as_dict(),
        "widths_1M": widths(million),
        "odd_widths_1M": odd_widths(million),
        "rate_relative_to_float32_1M_h64": dtypes(million, 64),
        "rate_relative_to_float32_1M_h128": dtypes(million, 128),
    }
    if not arguments.small:
        problem = skewed(*TEN_MILLION, h=1)
        report["building_10M"] = building(problem)
        ten_million = problem.observations()
        report["rate_relative_to_float32_10M_h64"] = dtypes(ten_million, 64)
        report["rate_relative_to_float32_10M_h128"] = dtypes(ten_million, 128)
        seconds = median_seconds({o.nnz: sweep_of(o, 64) for o in (million, ten_million)}, ROUNDS)
        del problem, ten_million
        large = netflix()
        seconds[NETFLIX[2]] = large["seconds"]
        report["netflix_100M_h64"] = large | {
            "percent_of_fma_peak": 100 * large["gflops"] / limits.fma_gflops
        }
        report["entries_h64"] = {"seconds": seconds, "log_log_slope": slope(seconds)}
    print(json.dumps(report, indent=1))
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
