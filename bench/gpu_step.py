"""`python -m bench.gpu_step`: the GPU's limits, and a step of 100 × 100 in one block and launched."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from bench import gpu_grid, gpu_limits
from bench.timing import median_seconds
from dmf_fast import completion_loss
from dmf_fast.experiments import low_rank_problem
from dmf_fast.initialization import initialize

SIZE, ENTRIES = 100, 2000
DEPTHS = (2, 3, 4)
WARM_UP = 3


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
        found = gpu_grid.measure(given.device, few, many, rounds, [(depth, 1e-3, 1e-3, ENTRIES)])
        keep(f"microseconds_of_one_block_at_depth_{depth}", found["microseconds_a_step_of_all"])
    keep("microseconds_launched", launched(given.device, 9 if given.device == "cuda" else 1))


if __name__ == "__main__":
    main()
