"""`python -m bench.gpu_step`: the GPU's limits, and a step of 100 × 100 in one block and launched."""

from __future__ import annotations

import argparse
import json
import time
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
from dmf_fast.training import FitOptions, Recording, fit

SIZE, ENTRIES = 100, 2000
DEPTHS = (2, 3, 4)
WARM_UP = 3


def of_one_block(depth: int, device: str, few: int, many: int, rounds: int) -> float:
    """Return microseconds a step: the difference of a run of `many` steps and one of `few`, over theirs."""
    train = low_rank_problem(SIZE, SIZE, 5, ENTRIES, seed=0).train.to(device)

    def seconds(steps: int) -> float:
        factors = initialize("gaussian", (SIZE,) * (depth + 1), 1e-3, seed=0, device=device)
        options = FitOptions(steps=steps, progress=False, engine=ENGINES[device])  # type: ignore[arg-type]
        start = time.perf_counter()
        result = fit(
            factors, train, partial(GroupRMSprop, lr=1e-3), options, recording=Recording(every=steps)
        )
        assert (result.engine, result.steps) == (options.engine, steps)
        return time.perf_counter() - start

    seconds(few)
    return 1e6 * median(seconds(many) - seconds(few) for _ in range(rounds)) / (many - few)


def launched(device: str, rounds: int) -> dict[str, float]:
    """Return microseconds of loss, gradients and updates at depth 3, from Python and as a CUDA graph."""
    train = low_rank_problem(SIZE, SIZE, 5, ENTRIES, seed=0).train.to(device)
    factors = initialize("gaussian", (SIZE,) * 4, 0.1, seed=0, device=device)
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
    given = parser.parse_args()
    # By count 22,000 steps of each depth take 4 seconds on an H100.
    few, many, rounds = (1000, 6000, 3) if given.device == "cuda" else (10, 60, 1)
    result: dict[str, Any] = {}

    def keep(name: str, found: object) -> None:
        result[name] = found
        given.output.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{name}: {found}", flush=True)

    keep("limits", gpu_limits.measure(given.device))
    for depth in DEPTHS:
        microseconds = of_one_block(depth, given.device, few, many, rounds)
        keep(f"microseconds_of_one_block_at_depth_{depth}", microseconds)
    keep("microseconds_launched", launched(given.device, 9 if given.device == "cuda" else 1))


if __name__ == "__main__":
    main()
