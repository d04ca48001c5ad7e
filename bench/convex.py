"""`python -m bench.convex`: nuclear-norm minimization compared with cvxpy with SCS, and on MovieLens 100K.

The paper's problem, 100 × 100 of rank 5, every entry within 1e-3: both solve it from scratch and in turns,
ours with its default tolerance, cvxpy with its problem compiled beforehand and SCS with its default
acceleration, at eps 1e-3 and 1e-4. Records the nuclear norm and the largest violation of each solution, and
a lower bound of the norm from a solution that is certified to 1e-5.
(Interior points, as in CLARABEL, do not fit: their systems are as large as a symmetric matrix of 200 rows has
numbers.) On MovieLens, which cvxpy does not solve in reasonable time, ours alone. Medians. Writes one JSON
file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cvxpy
import torch

from bench import machine
from bench.problems import movielens
from bench.record import origin, results_file
from bench.timing import median_seconds
from dmf_fast import Observations
from dmf_fast.convex import ConvexOptions, ConvexSolution, minimum_nuclear_norm, nuclear_norm_regression
from dmf_fast.experiments import low_rank_problem

ROUNDS = 3
EPSILON = 1e-3
SCS_TOLERANCES = (1e-3, 1e-4)
REGULARIZATIONS = (100.0, 40.0, 20.0)


@dataclass
class Result:
    """What a solver has found last."""

    nuclear_norm: float = 0.0
    largest_violation: float = 0.0


class Rival:
    """cvxpy's problem, compiled once."""

    def __init__(self, train: Observations) -> None:
        self.values = train.values.numpy()
        matrix = cvxpy.Variable(train.shape)
        self.entries = matrix[tuple(indices.numpy() for indices in train.coordinates())]
        within = [cvxpy.abs(self.entries - self.values) <= EPSILON]
        self.problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(matrix)), within)
        start = time.perf_counter()
        self.problem.get_problem_data(cvxpy.SCS)
        self.compile_seconds = time.perf_counter() - start

    def solve(self, eps: float, result: Result) -> None:
        self.problem.solve(solver=cvxpy.SCS, eps=eps, warm_start=False)
        result.nuclear_norm = float(self.problem.value)
        result.largest_violation = float(abs(self.entries.value - self.values).max()) - EPSILON


def solve_ours(train: Observations, result: Result) -> None:
    found = minimum_nuclear_norm(train, EPSILON)
    result.nuclear_norm, result.largest_violation = found.objective, found.largest_violation


def beside_cvxpy(observed: int) -> dict[str, Any]:
    """Time both on the paper's problem."""
    train = low_rank_problem(100, 100, 5, observed, seed=0, dtype=torch.float64).train
    precise = minimum_nuclear_norm(train, EPSILON, ConvexOptions(tolerance=1e-5, iterations=10_000))
    rival = Rival(train)
    results = {"dmf_fast": Result()} | {f"cvxpy + SCS, eps {eps:g}": Result() for eps in SCS_TOLERANCES}
    passes: dict[str, Callable[[], None]] = {"dmf_fast": lambda: solve_ours(train, results["dmf_fast"])}
    for (name, result), eps in zip(list(results.items())[1:], SCS_TOLERANCES, strict=True):
        passes[name] = lambda result=result, eps=eps: rival.solve(eps, result)
    seconds = median_seconds(passes, ROUNDS)
    return {
        "observed": observed,
        "seconds": seconds,
        "ratio": {name: value / seconds["dmf_fast"] for name, value in seconds.items()},
        "compile_seconds_of_cvxpy": rival.compile_seconds,
        "nuclear_norm": {name: result.nuclear_norm for name, result in results.items()},
        "largest_violation": {name: result.largest_violation for name, result in results.items()},
        "certified": [precise.lower_bound, precise.objective],
    }


def alone(name: str, solve: Callable[[], ConvexSolution]) -> dict[str, Any]:
    """Time one solution."""
    start = time.perf_counter()
    solution = solve()
    return {
        "problem": name,
        "seconds": time.perf_counter() - start,
        "converged": solution.converged,
        "iterations": solution.iterations,
        "rank": solution.matrix.rank,
        "objective": solution.objective,
        "relative_gap": solution.relative_gap,
        "violation": solution.violation,
        "largest_violation": solution.largest_violation,
    }


def on_movielens() -> list[dict[str, Any]]:
    """Time the constrained problem and regressions, ours alone, with all threads."""
    ratings = movielens(h=1)
    if ratings is None:
        return []
    train = ratings.observations()
    constrained = alone("every entry within 1e-3", lambda: minimum_nuclear_norm(train, EPSILON))
    return [constrained] + [
        alone(f"regularization {weight:g}", lambda weight=weight: nuclear_norm_regression(train, weight))
        for weight in REGULARIZATIONS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=results_file("convex"))
    arguments = parser.parse_args()
    report: dict[str, Any] = {
        **origin(),
        "cvxpy": cvxpy.__version__,
        "machine": machine.measure(torch.get_num_threads()).as_dict(),
        "beside_cvxpy": [beside_cvxpy(observed) for observed in (2_000, 5_000)],
        "movielens": on_movielens(),
    }
    for case in (*report["beside_cvxpy"], *report["movielens"]):
        print(json.dumps(case))
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
