"""`python -m bench.gpu_steps`: the GPU's limits, and steps on 100 × 100 in one block and launched.

With `--grid` the paper's grid of 48 completion runs at once, a block of the GPU each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bench import gpu_limits
from bench.gpu_runs import ENGINES
from bench.timing import median_seconds
from dmf_fast import completion_loss
from dmf_fast.experiments import low_rank_problem
from dmf_fast.initialization import initialize
from dmf_fast.optim import GroupRMSprop
from dmf_fast.training import FitOptions, Recording, Trial, fit_many

MILLION_STEPS = 1_000_000
DEPTHS = (2, 3, 4)
WARM_UP = 3
# Depths × init scales × learning rates × how many are observed.
GRID = tuple(itertools.product(DEPTHS, (1e-3, 1e-4, 1e-5, 1e-6), (1e-3, 3e-4), (2_000, 5_000)))

Kind = tuple[int, float, float, int]


def trials(device: str, kinds: Sequence[Kind], steps: int) -> list[Trial]:
    """Return runs on 100 × 100 of rank 5."""
    options = FitOptions(steps=steps, progress=False, engine=ENGINES[device])  # type: ignore[arg-type]
    problems = {
        observed: low_rank_problem(100, 100, 5, observed, seed=0).train.to(device)
        for observed in {kind[3] for kind in kinds}
    }
    return [
        Trial(
            {"depth": depth, "init_scale": init_scale, "lr": lr, "observed": observed},
            initialize("gaussian", (100,) * (depth + 1), init_scale, seed=0, device=device),
            problems[observed],
            partial(GroupRMSprop, lr=lr),
            options,
            Recording(every=max(1, steps // 10)),
        )
        for depth, init_scale, lr, observed in kinds
    ]


def in_blocks(device: str, kinds: Sequence[Kind], few: int, many: int, rounds: int) -> dict[str, float]:
    """Time runs with few and with many steps; the difference says how long a million would take."""

    def seconds(steps: int) -> float:
        given = trials(device, kinds, steps)
        start = time.perf_counter()
        ended = fit_many(given).results
        elapsed = time.perf_counter() - start
        assert {(one.result.engine, one.result.steps) for one in ended} == {(ENGINES[device], steps)}
        return elapsed

    seconds(few)
    of_few, of_many = (median(seconds(steps) for _ in range(rounds)) for steps in (few, many))
    seconds_a_step = (of_many - of_few) / (many - few)
    return {
        "runs": len(kinds),
        "microseconds_a_step": 1e6 * seconds_a_step,
        "seconds_of_a_million_steps": of_few + seconds_a_step * (MILLION_STEPS - few),
    }


def launched(device: str, rounds: int) -> dict[str, float]:
    """Return microseconds of loss, gradients and updates at depth 3, from Python and as a CUDA graph."""
    train = low_rank_problem(100, 100, 5, 2_000, seed=0).train.to(device)
    factors = initialize("gaussian", (100,) * 4, 0.1, seed=0, device=device)
    for factor in factors:
        factor.requires_grad_()

    def step() -> None:
        gradients = torch.autograd.grad(completion_loss(factors, train), factors)
        with torch.no_grad():
            torch._foreach_add_(factors, gradients, alpha=-1e-3)

    passes = {"from Python": step}
    if device == "cuda":
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # captures need a warm-up on a stream of its own
            for _ in range(WARM_UP):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        passes["CUDA graph"] = graph.replay
    return {name: 1e6 * seconds for name, seconds in median_seconds(passes, rounds, device).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument(
        "--output", type=Path, required=True, help="JSON file, written after each measurement"
    )
    parser.add_argument("--grid", action="store_true", help="the grid alone")
    given = parser.parse_args()
    on_gpu, result = given.device == "cuda", dict[str, Any]()

    def keep(**found: object) -> None:
        result.update(found)
        given.output.write_text(json.dumps(result, indent=1) + "\n")
        print(found, flush=True)

    if given.grid:
        keep(limits=gpu_limits.facts(given.device))
        return keep(**in_blocks(given.device, GRID, *((2000, 52_000, 1) if on_gpu else (2, 6, 1))))
    keep(limits=gpu_limits.measure(given.device))
    for depth in DEPTHS:  # by count 22,000 steps of each take 4 seconds on an H100
        steps = (1000, 6000, 3) if on_gpu else (10, 60, 1)
        found = in_blocks(given.device, [(depth, 1e-3, 1e-3, 2_000)], *steps)
        keep(**{f"microseconds_of_one_block_at_depth_{depth}": found["microseconds_a_step"]})
    keep(microseconds_launched=launched(given.device, 9 if on_gpu else 1))


if __name__ == "__main__":
    main()
