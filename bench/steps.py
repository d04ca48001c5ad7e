"""`python -m bench.steps`: a step of `fit` compared with the loops that it replaces, and two runs at once.

A step is the loss, all gradients and the update. The PyTorch loop is measured twice: without and with a test
loss on the whole matrix, which research code computes in every iteration and `fit` only in recorded rows.
Passes take turns; medians. Small problems run in one thread, with which the loops are fastest. Writes one
JSON file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from bench import machine
from bench.loops import dense_loop, operator_loop
from bench.problems import movielens
from bench.record import origin, results_file
from bench.timing import median_seconds
from dmf_fast import Observations, info
from dmf_fast.experiments import low_rank_problem
from dmf_fast.initialization import initialize
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.optim import GroupRMSprop, OptimizerSpec
from dmf_fast.training import FitOptions
from dmf_fast.training.engines.native import NativeEngine

ROUNDS = 9
OPTIMIZERS = {
    "GroupRMSprop": OptimizerSpec(GroupRMSprop, {"lr": 1e-3}),
    "SGD": OptimizerSpec(torch.optim.SGD, {"lr": 1e-3}),
    "Adam": OptimizerSpec(torch.optim.Adam, {"lr": 1e-3}),
}
TARGETS = {
    ("100×100, 2,000 observed", 2): 30.0,
    ("100×100, 2,000 observed", 3): 8.0,
    ("100×100, 2,000 observed", 4): 5.0,
    ("943×1682, 100,000 observed", 2): 8.0,
    ("943×1682, 100,000 observed", 3): 2.2,
}


@dataclass(frozen=True)
class Case:
    name: str
    train: Observations
    truth: Tensor
    hidden: int
    depth: int
    optimizer: str
    threads: int
    steps_a_pass: int

    def factors(self) -> list[Tensor]:
        rows, columns = self.train.shape
        return initialize("gaussian", (columns, *[self.hidden] * (self.depth - 1), rows), 1e-2, seed=0)


def small_cases() -> list[Case]:
    few, many = (low_rank_problem(100, 100, 5, observed, seed=0) for observed in (2_000, 5_000))
    name, other = "100×100, 2,000 observed", "100×100, 5,000 observed"
    cases = [Case(name, few.train, few.truth, 100, depth, "GroupRMSprop", 1, 50) for depth in (2, 3, 4)]
    cases += [Case(name, few.train, few.truth, 100, 3, optimizer, 1, 50) for optimizer in ("SGD", "Adam")]
    return cases + [
        Case(other, many.train, many.truth, 100, depth, "GroupRMSprop", 1, 50) for depth in (2, 3)
    ]


def large_cases() -> list[Case]:
    problem = movielens(h=1)
    if problem is None:
        return []
    train = problem.observations()
    truth = torch.randn(train.shape, generator=torch.Generator().manual_seed(0))
    name = f"{train.shape[0]}×{train.shape[1]}, {train.nnz:,} observed"
    threads = torch.get_num_threads()
    return [Case(name, train, truth, 943, depth, "SGD", threads, 1) for depth in (2, 3)]


def engine_of(case: Case) -> NativeEngine:
    model = DeepMatrixFactorization.of_factors(case.factors())
    return NativeEngine(model, case.train, OPTIMIZERS[case.optimizer], FitOptions())


def native(case: Case) -> Callable[[int], object]:
    """Return a function that makes so many steps more."""
    engine = engine_of(case)
    return lambda steps: engine.run(engine.step + steps, most_seconds=3600.0)


def measure(case: Case) -> dict[str, object]:
    """Time a step of all ways in turns."""
    torch.set_num_threads(case.threads)
    run = native(case)
    factors, optimizer = case.factors(), OPTIMIZERS[case.optimizer]
    loops = {
        "PyTorch loop": dense_loop(factors, case.train, optimizer, case.truth),
        "PyTorch loop without test loss": dense_loop(factors, case.train, optimizer, None),
        "completion_loss loop": operator_loop(factors, case.train, optimizer),
    }
    passes = {"fit": lambda: run(case.steps_a_pass)} | loops
    seconds = median_seconds(passes, ROUNDS)
    seconds["fit"] /= case.steps_a_pass
    plan = engine_of(case).program.plan
    flops = plan.chain_flops + plan.observed_flops
    ratio = seconds["PyTorch loop"] / seconds["fit"]
    return {
        "problem": case.name,
        "depth": case.depth,
        "optimizer": case.optimizer,
        "threads": case.threads,
        "plan": plan.name,
        "microseconds": {name: 1e6 * value for name, value in seconds.items()},
        "ratio": ratio,
        "target": TARGETS.get((case.name, case.depth)) if case.optimizer != "Adam" else None,
        "gflops": flops / seconds["fit"] / 1e9,
    }


def two_runs(depth: int, steps: int = 20_000) -> float:
    """Return how many times as many steps a second two runs in two threads make as one alone."""
    torch.set_num_threads(1)
    case = next(case for case in small_cases() if case.depth == depth)
    runs = [native(case) for _ in range(2)]
    ratios = []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(ROUNDS):
            alone, both = (
                _seconds(lambda n=n: list(pool.map(lambda run: run(steps), runs[:n]))) for n in (1, 2)
            )
            ratios.append(2 * alone / both)
    return median(ratios)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=results_file("steps"))
    parser.add_argument("--small", action="store_true", help="100 × 100 alone")
    arguments = parser.parse_args()
    threads = torch.get_num_threads()
    limits = {count: machine.measure(count) for count in sorted({1, threads})}
    cases = small_cases() + ([] if arguments.small else large_cases())
    report: dict[str, object] = {
        **origin(),
        "instruction_set": info.active_instruction_set(),
        "machine": [limit.as_dict() for limit in limits.values()],
        "cases": [],
    }
    for case in cases:
        result = measure(case)
        result["percent_of_fma_peak"] = 100 * result["gflops"] / limits[case.threads].fma_gflops
        report["cases"].append(result)
        times = ", ".join(f"{name} {value:.1f}" for name, value in result["microseconds"].items())
        print(
            f"{case.name}, depth {case.depth}, {case.optimizer}, {case.threads} threads: {times} µs; "
            f"{result['ratio']:.1f}× (target {result['target']}), {result['gflops']:.0f} GFLOP/s, "
            f"{result['percent_of_fma_peak']:.0f} % of the FMA peak"
        )
    report["two_runs_on_two_cores"] = {depth: two_runs(depth) for depth in (2, 3)}
    print("two runs on two cores, compared with one:", report["two_runs_on_two_cores"], "(target 1.85)")
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
