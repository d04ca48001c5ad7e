"""`python -m bench.planner_grid`: is the planner's choice as fast as the best of all splits and orders?

For every problem of a grid (dims, density, depth) all plans are timed: each split and the dense product, each
in every order of its products. A step is the loss with all gradients. Plans take turns; medians are compared.
Writes one JSON file and prints the problems in which the choice is slowest compared with the best.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from bench import machine
from bench.record import origin, results_file
from bench.timing import median_seconds, timed
from dmf_fast import Observations, completion_loss
from dmf_fast.ops import functional, planner

DENSITIES = (0.001, 0.01, 0.05, 0.2, 0.6, 1.0)
# Hidden widths are drawn for every problem and repeat along the chain; depth 1 has none.
SHAPES = ((100, 100), (300, 1000), (943, 1682), (2000, 500))
HIDDEN = ((10,), (64,), (100, 20), (300, 64), (400,))
CANDIDATES = 6  # plans that are timed to the end


@dataclass(frozen=True)
class GridProblem:
    dims: tuple[int, ...]
    density: float

    @property
    def nnz(self) -> int:
        return max(1, round(self.density * self.dims[0] * self.dims[-1]))

    def __str__(self) -> str:
        return f"{'×'.join(map(str, reversed(self.dims)))}, {self.density:.1%}"


def grid(seed: int = 0) -> Iterator[GridProblem]:
    """Yield every density with every depth and shape."""
    widths = random.Random(seed)
    for depth, (rows, columns), density in itertools.product(range(1, 7), SHAPES, DENSITIES):
        hidden = widths.choice(HIDDEN)
        inner = tuple(hidden[layer % len(hidden)] for layer in range(depth - 1))
        yield GridProblem((columns, *inner, rows), density)


def all_plans(problem: GridProblem) -> list[planner.Plan]:
    """Return every split and the dense product, in every order of products."""
    depth = len(problem.dims) - 1
    dense = planner._dense_plan(problem.dims, problem.nnz)
    plans = [replace(dense, left=order) for order in orders(0, depth)]
    for split in range(1, depth):
        plan = planner._split_plan(problem.dims, problem.nnz, split)
        pairs = itertools.product(orders(split, depth), orders(0, split))
        plans += [replace(plan, left=left, right=right) for left, right in pairs]
    return plans


def orders(first: int, last: int) -> list[planner.Order]:
    """Return every way to multiply ``W_last … W_{first+1}``."""
    if last - first == 1:
        return [first]
    return [
        (left, right)
        for middle in range(first + 1, last)
        for left in orders(middle, last)
        for right in orders(first, middle)
    ]


class Stepper:
    """Makes one step under a given plan."""

    def __init__(self, problem: GridProblem) -> None:
        generator = torch.Generator().manual_seed(0)
        n, m = problem.dims[0], problem.dims[-1]
        cells = torch.randperm(m * n, generator=generator)[: problem.nnz]
        values = torch.randn(problem.nnz, generator=generator)
        self.observations = Observations(cells // n, cells % n, values, (m, n))
        self.factors = [
            (torch.randn(outer, inner, generator=generator) / inner**0.5).requires_grad_()
            for inner, outer in itertools.pairwise(problem.dims)
        ]
        self.chosen = planner.plan_for(self.factors, self.observations)

    def step(self, plan: planner.Plan) -> None:
        before, functional.plan_for = functional.plan_for, lambda *_: plan
        try:
            torch.autograd.grad(completion_loss(self.factors, self.observations), self.factors)
        finally:
            functional.plan_for = before

    def same(self, plan: planner.Plan) -> bool:
        return (plan.split, plan.left, plan.right) == (self.chosen.split, self.chosen.left, self.chosen.right)


def compare(problem: GridProblem, rounds: int) -> dict[str, object]:
    """Time all plans three times, then the fastest few and the planner's choice against each other."""
    stepper = Stepper(problem)
    plans = all_plans(problem)
    for plan in plans:
        stepper.step(plan)
    first = sorted(plans, key=lambda plan: min(timed(partial(stepper.step, plan), 1) for _ in range(2)))
    finalists = [plan for plan in first[:CANDIDATES] if not stepper.same(plan)] + [stepper.chosen]
    passes = {place: partial(stepper.step, plan) for place, plan in enumerate(finalists)}
    medians = median_seconds(passes, rounds)
    best = min(medians, key=medians.__getitem__)
    chosen = medians[len(finalists) - 1]
    return {
        "problem": str(problem),
        "depth": len(problem.dims) - 1,
        "density": problem.density,
        "plans": len(plans),
        "chosen": stepper.chosen.name,
        "chosen_milliseconds": 1e3 * chosen,
        "best": describe(finalists[best]),
        "best_milliseconds": 1e3 * medians[best],
        "excess_percent": 100 * (chosen / medians[best] - 1),
    }


def describe(plan: planner.Plan) -> str:
    sides = planner._show(plan.left) + ("" if plan.right is None else " | " + planner._show(plan.right))
    return f"{plan.name}: {sides}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=results_file("planner"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--every", type=int, default=1, help="time every k-th problem only")
    arguments = parser.parse_args()
    results = [compare(problem, arguments.rounds) for problem in list(grid())[:: arguments.every]]
    results.sort(key=lambda result: -result["excess_percent"])
    within = sum(result["excess_percent"] <= 10 for result in results)
    print(f"{within} of {len(results)} choices are within 10% of the best plan")
    for result in results[:25]:
        print(
            f"{result['excess_percent']:6.1f} %  {result['problem']:<45} "
            f"{result['chosen']:<11} {result['chosen_milliseconds']:8.3f} ms, "
            f"best {result['best']} {result['best_milliseconds']:.3f} ms"
        )
    report = {
        **origin(),
        "machine": machine.measure(torch.get_num_threads()).as_dict(),
        "within_10_percent": within,
        "problems": results,
    }
    arguments.output.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
