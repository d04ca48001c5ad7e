"""`python -m bench.gpu_report --output FILE`: every case on the GPU, its rivals and the GPU's limits.

Rivals take turns, timed by the GPU; medians are reported, and errors against float64. A rival that fails
costs its own numbers only. FILE is written after every case: a run that is stopped leaves what it has.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from bench import accuracy, gather_limit, gpu_grid, gpu_limits, gpu_memory, gpu_step
from bench.cases import COMPILED, GPU_CASES, NETFLIX_CASE, Case
from bench.gpu_rivals import GPU_RIVALS
from bench.gpu_targets import outcomes
from bench.problems import Problem
from bench.record import origin
from bench.rivals import Pass
from bench.timing import median_seconds

LARGEST_ERROR = 0.05  # beyond rounding to bfloat16: such a pass computes something else


def compare(problem: Problem, rivals: Iterable[str], rounds: int) -> dict[str, object]:
    """Time the passes in turns, after each was compared with float64."""
    expected = accuracy.exact(problem)
    passes: dict[str, Pass] = {}
    errors: dict[str, dict[str, float]] = {}
    failures: dict[str, str] = {}
    for name in rivals:
        with surviving(name, failures):
            one_pass = GPU_RIVALS[name](problem)
            errors[name] = accuracy.errors(one_pass(), expected)
            if not all(error <= LARGEST_ERROR for error in errors[name].values()):
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


def run_case(case: Case, compiled: bool) -> dict[str, object]:
    """Return everything that is measured of one case."""
    problem = case.problem()
    failures: dict[str, str] = {}
    result: dict = {"problem": case.name, "nnz": problem.nnz, "h": problem.h}
    with surviving("memory", failures):
        result["memory"] = gpu_memory.measure(problem)
    with surviving("rivals", failures):
        names = (*case.rivals, COMPILED) if compiled else case.rivals
        result |= compare(problem, names, case.rounds)
    with surviving("gather bound", failures):
        bound = gather_limit.measure(problem)
        result["gather_bound"] = bound.as_dict()
        result["percent_of_gather_bound"] = 100 * 1e3 * bound.seconds / result["milliseconds"]["dmf_fast"]
    result["failures"] = result.get("failures", {}) | failures
    return result


def show(result: dict) -> None:
    """Print one case in a few lines."""
    print(f"\n{result['problem']}")
    ours = result.get("milliseconds", {}).get("dmf_fast")
    for name, milliseconds in result.get("milliseconds", {}).items():
        ratio = f"{milliseconds / ours:8.2f}×" if ours else ""
        error = max(result["errors"][name].values())
        gflops = result["gflops"][name]
        print(f"  {name:<26}{milliseconds:10.4f} ms {ratio} {gflops:8.0f} GFLOP/s   error {error:.1e}")
    if "percent_of_gather_bound" in result:
        bound = result["gather_bound"]
        print(
            f"  gathers alone: {1e3 * bound['seconds']:.4f} ms, {bound['terabytes_per_second']:.2f} TB/s; "
            f"dmf_fast reaches {result['percent_of_gather_bound']:.0f} %"
        )
    for name, number in result.get("memory", {}).items():
        print(f"  {name}: {number:.3g}")
    for name, reason in result["failures"].items():
        print(f"  {name} failed: {reason}")


def show_targets(report: dict) -> None:
    """Print the targets."""
    print("\nTargets")
    for target in report["targets"]:
        measured = "–" if target["measured"] is None else f"{target['measured']:.3g}"
        print(f"  {target['outcome']:<13}{target['target']}: {measured} ({target['wanted']})")


def save(report: dict, output: Path) -> None:
    """Write the report, with what is known of the targets so far."""
    report["targets"] = outcomes(report)
    output.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--only", default="", help="run the cases whose name contains this text")
    parser.add_argument("--compile", action="store_true", help=f"also time “{COMPILED}”")
    arguments = parser.parse_args()
    report: dict = {**origin(), "device": gpu_limits.facts(), "cases": [], "failures": {}}
    with surviving("limits", report["failures"]):
        report["limits"] = gpu_limits.measure().as_dict()
        print(json.dumps(report["limits"], indent=1))
    with surviving("launch_bound", report["failures"]):
        report["launch_bound"] = gpu_step.measure()
        print(json.dumps(report["launch_bound"], indent=1, ensure_ascii=False))
    with surviving("grid", report["failures"]):
        report["grid"] = gpu_grid.measure()
        print(json.dumps(report["grid"], indent=1))
    save(report, arguments.output)
    for case in (*GPU_CASES[:2], NETFLIX_CASE, *GPU_CASES[2:]):
        if arguments.only in case.name:
            with surviving(case.name, report["failures"]):
                report["cases"].append(run_case(case, arguments.compile))
                show(report["cases"][-1])
            torch.cuda.empty_cache()
            save(report, arguments.output)
    show_targets(report)
    failed = [*report["failures"], *(name for case in report["cases"] for name in case["failures"])]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
