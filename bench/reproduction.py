"""`python -m bench.reproduction runs/paper`: the time of `dmf-fast reproduce all` and of research code.

Reads the numbers of steps and their time from `results.json`, measures a step of every kind in a PyTorch loop
(bench/loops.py; with one thread or with all, whichever is faster), and adds up. The loop is estimated twice:
one run after the other, and as many at once as there are cores, as if they did not disturb each other. Work
other than steps, such as convex solvers, spectra and figures, counts for `reproduce` only. Writes one JSON
file, from which `--table FILE` prints the table of docs/experiments.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.loops import dense_loop, sensing_loop
from bench.record import origin, results_file
from bench.timing import median_seconds
from dmf_fast.experiments import low_rank_problem
from dmf_fast.initialization import initialize
from dmf_fast.optim import GroupRMSprop, OptimizerSpec

ROUNDS = 5
TARGET = 6.0


def one_step(work: dict[str, Any]) -> Callable[[], object]:
    """Return an iteration of the loop for work of this kind, in float32."""
    dims, observed = work["dims"], work["observed"]
    rows, columns = dims[-1], dims[0]
    problem = low_rank_problem(rows, columns, min(5, rows, columns), min(observed, rows * columns), seed=0)
    factors = initialize("gaussian", dims, 1e-2, seed=0)
    spec = OptimizerSpec(GroupRMSprop, {"lr": 1e-3})
    if work["task"] == "completion":
        return dense_loop(factors, problem.train, spec, problem.truth)
    matrices = torch.randn(observed, rows * columns, generator=torch.Generator().manual_seed(0))
    return sensing_loop(factors, matrices, matrices @ problem.truth.flatten(), spec, problem.truth)


def seconds_a_step(work: dict[str, Any]) -> float:
    """Return the median seconds of an iteration, with the number of threads that suits it best."""
    times = []
    for threads in sorted({1, torch.get_num_threads()}):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        times.append(median_seconds({"step": one_step(work)}, ROUNDS)["step"])
        torch.set_num_threads(before)
    return min(times)


def measured(folder: Path) -> dict[str, Any]:
    """Return times, verdicts and estimates of what ``dmf-fast reproduce`` wrote into a folder."""
    results = json.loads((folder / "results.json").read_text())
    cores = torch.get_num_threads()
    report: dict[str, Any] = {**origin(), "cores": cores, "facts": results["facts"], "experiments": {}}
    for name, section in results["sections"].items():
        kinds = [work | {"loop_seconds_a_step": seconds_a_step(work)} for work in section["work"]]
        loop = sum(work["steps"] * work["loop_seconds_a_step"] for work in kinds)
        kept = {key: section[key] for key in ("title", "paper", "seconds")}
        claims = [
            {key: claim[key] for key in ("statement", "verdict", "evidence")} for claim in section["claims"]
        ]
        report["experiments"][name] = kept | {"loop_seconds": loop, "claims": claims, "work": kinds}
        print(f"{name}: {section['seconds']:.0f} s, PyTorch loop {loop:.0f} s")
    seconds, loop = (
        sum(one[key] for one in report["experiments"].values()) for key in ("seconds", "loop_seconds")
    )
    print(
        f"all: {seconds / 60:.1f} minutes; PyTorch loop {loop / 60:.0f} minutes one run after the other "
        f"({loop / seconds:.1f}×, target {TARGET:g}×), {loop / cores / 60:.0f} with {cores} at once "
        f"({loop / cores / seconds:.1f}×)"
    )
    return report | {"seconds": seconds, "loop_seconds": loop, "ratio": loop / seconds}


def table(report: dict[str, Any]) -> str:
    """Return the table of docs/experiments.md: a line for every experiment, with verdicts and time."""
    lines = [
        "| experiment | looks at | statements | reproduced | not | seconds |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    total = dict.fromkeys(("claims", "reproduced", "not"), 0)
    for name, one in report["experiments"].items():
        found = [claim["verdict"] for claim in one["claims"]]
        counts = {"claims": len(found)} | {
            key: found.count(word) for key, word in (("reproduced", "reproduced"), ("not", "not reproduced"))
        }
        total = {key: total[key] + count for key, count in counts.items()}
        authors = one["paper"].partition(", “")[0]
        source = f" ({authors})" if authors else ""
        line = (f"`{name}`", one["title"] + source, *counts.values(), f"{one['seconds']:.0f}")
        lines.append("| " + " | ".join(map(str, line)) + " |")
    lines.append("| " + " | ".join(map(str, ("all", "", *total.values(), f"{report['seconds']:.0f}"))) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="that `dmf-fast reproduce` wrote")
    parser.add_argument("--output", type=Path, default=results_file("reproduction"))
    parser.add_argument("--table", type=Path, help="print the table of docs/experiments.md of such a file")
    arguments = parser.parse_args()
    if arguments.table is not None:
        print(table(json.loads(arguments.table.read_text())))
    elif arguments.folder is None:
        parser.error("name a folder or give --table")
    else:
        arguments.output.write_text(json.dumps(measured(arguments.folder), indent=1) + "\n")


if __name__ == "__main__":
    main()
