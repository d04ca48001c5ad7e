"""`python -m bench.gpu_sweep --output FILE`: passes over the entries, rivals, and the bound of the gathers.

Rivals take turns, timed by the GPU; reports medians, and errors compared with float64. A rival that fails
only lacks its own numbers. FILE is written after every case, so that a stopped run keeps its results.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import re
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench import accuracy, gather_limit, gpu_memory
from bench.cases import COMPILED, GPU_CASES, NETFLIX_CASE, Case
from bench.gpu_rivals import GPU_RIVALS
from bench.problems import Problem, skewed_on
from bench.rivals import Pass
from bench.timing import median_seconds

SECONDS_A_TURN = 8
HOST_BOUND = 200_000  # entries, below which a GPU waits for the host


def largest_error(name: str) -> float:
    """Return how far from float64 a float32 pass may be; TF32 has 11 bits of 24."""
    return 1e-2 if name.endswith(", TF32") else 1e-4


def stand_in(case: Case) -> Case:
    """Return a small case for a machine without a GPU."""
    return replace(
        case,
        name=f"60×50, in place of {case.name}",
        problem=partial(skewed_on, "cpu", 60, 50, 400, 16),
        rivals=("dmf_fast", "sampled_addmm + CSR"),
        rounds=1,
        device="cpu",
    )


def compare(problem: Problem, rivals: Iterable[str], rounds: int) -> dict[str, Any]:
    """Time the passes in turns, after each was compared with float64."""
    expected = accuracy.exact(problem)
    passes: dict[str, Pass] = {}
    errors: dict[str, dict[str, float]] = {}
    failures: dict[str, str] = {}
    for name in rivals:
        with surviving(name, failures):
            one_pass = GPU_RIVALS[name](problem)
            errors[name] = accuracy.errors(one_pass(), expected)
            if not all(error <= largest_error(name) for error in errors[name].values()):
                raise ArithmeticError(f"far from float64: {errors[name]}")
            passes[name] = one_pass
    seconds = median_seconds(passes, rounds, problem.a.device)
    return {
        "milliseconds": {name: 1e3 * value for name, value in seconds.items()},
        "gflops": {name: problem.flops / value / 1e9 for name, value in seconds.items()},
        "errors": errors,
        "failures": failures,
    }


@contextmanager
def surviving(name: str, failures: dict[str, str]) -> Iterator[None]:
    """Print and keep the exception of a block, and continue: one rival must not cost the others' numbers."""
    try:
        yield
    except Exception as error:
        traceback.print_exc()
        failures[name] = f"{type(error).__name__}: {error}"


def run_case(case: Case, ours_alone: bool) -> dict[str, Any]:
    """Return everything that is measured of one case, or the times of our own passes alone."""
    problem = case.problem()
    assert problem is not None
    failures: dict[str, str] = {}
    result: dict[str, Any] = {"problem": case.name, "nnz": problem.nnz, "h": problem.h}
    if case.device == "cuda" and not ours_alone:
        with surviving("memory", failures):
            result["memory"] = gpu_memory.measure(problem)
    if not ours_alone:
        with surviving("gather bound", failures):
            result["gather_bound"] = gather_limit.measure(problem)
    with surviving("rivals", failures):
        names = [name for name in case.rivals if name.startswith("dmf_fast") or not ours_alone]
        result |= compare(problem, names, case.rounds)
    ours = result.get("milliseconds", {}).get("dmf_fast")
    if ours is not None and "gather_bound" in result:
        result["percent_of_gather_bound"] = 100 * 1e3 * result["gather_bound"]["seconds"] / ours
    result["failures"] = result.get("failures", {}) | failures
    return result


def show(result: dict[str, Any]) -> None:
    """Print one case in a few lines."""
    host = "; probably bound by the host, with 3 launches and 8 allocations a pass of dmf_fast"
    print(f"\n{result['problem']}{host if result['nnz'] < HOST_BOUND else ''}")
    ours = result.get("milliseconds", {}).get("dmf_fast")
    for name, milliseconds in result.get("milliseconds", {}).items():
        ratio = f"{milliseconds / ours:8.2f}×" if ours else ""
        error = max(result["errors"][name].values())
        gflops = result["gflops"][name]
        print(f"  {name:<26}{milliseconds:10.4f} ms {ratio} {gflops:8.0f} GFLOP/s   error {error:.1e}")
    if "gather_bound" in result:
        bound, percent = result["gather_bound"], result.get("percent_of_gather_bound", float("nan"))
        print(
            f"  gathers alone: {1e3 * bound['seconds']:.4f} ms, {bound['terabytes_per_second']:.2f} TB/s; "
            f"dmf_fast reaches {percent:.0f} %"
        )
    for name, number in result.get("memory", {}).items():
        print(f"  {name}: {number:.3g}")
    for name, reason in result["failures"].items():
        print(f"  {name} failed: {reason}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--cases", default="", help="regular expression of names of cases")
    parser.add_argument("--ours", action="store_true", help="time our own passes alone")
    parser.add_argument("--turn", type=Path, help="file that only one process measures with at a time")
    parser.add_argument("--compile", action="store_true", help=f"also time “{COMPILED}”")
    given = parser.parse_args()
    report: dict[str, Any] = {"cases": [], "failures": {}}
    turn = None if given.turn is None else given.turn.open("w")
    if turn is not None:
        fcntl.flock(turn, fcntl.LOCK_EX)  # before this process uses the GPU, until it ends
        signal.alarm(SECONDS_A_TURN * (5 if given.device == "cpu" else 1))  # which ends it also in a call
    for case in (case for case in (*GPU_CASES, NETFLIX_CASE) if re.search(given.cases, case.name)):
        case = replace(case, rivals=(*case.rivals, COMPILED)) if given.compile else case
        with surviving(case.name, report["failures"]):
            report["cases"].append(run_case(stand_in(case) if given.device == "cpu" else case, given.ours))
            show(report["cases"][-1])
        given.output.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        if given.device == "cuda":
            torch.cuda.empty_cache()
    failed = [*report["failures"], *(name for case in report["cases"] for name in case["failures"])]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
