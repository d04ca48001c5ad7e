"""`python -m bench.gpu_step`: a step of the paper's 100 × 100, in one block and launched kernel by kernel."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial, reduce
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from bench.gpu_runs import ENGINES
from bench.timing import median_seconds
from dmf_fast import Observations, completion_loss
from dmf_fast.experiments import low_rank_problem
from dmf_fast.initialization import initialize
from dmf_fast.optim import GroupRMSprop
from dmf_fast.training import FitOptions, Recording, fit

SIZE, ENTRIES = 100, 2000
DEPTHS = (2, 3, 4)
LEARNING_RATE = 0.1
WARM_UP = 3
ROUNDS = 9

Objective = Callable[[list[Tensor]], Tensor]


def of_one_block(depth: int, device: str, few: int, many: int, rounds: int = 3) -> float:
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


class Trainer:
    """Takes steps of gradient descent on factors that always start the same."""

    def __init__(self, objective: Objective, device: torch.device | str) -> None:
        generator = torch.Generator().manual_seed(0)
        self.factors = [
            (torch.randn(SIZE, SIZE, generator=generator) / SIZE**0.5).to(device).requires_grad_()
            for _ in range(3)
        ]
        self._objective = objective
        self._optimizer = torch.optim.SGD(self.factors, LEARNING_RATE, foreach=True)

    def step(self) -> None:
        """Compute the loss and its gradients; update the factors in place."""
        self._optimizer.zero_grad(set_to_none=True)
        self._objective(self.factors).backward()
        self._optimizer.step()

    def capture(self) -> Trainer:
        """Record one step, after WARM_UP steps on a stream of their own, as captures need."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self.step()
        return self

    def replay(self) -> None:
        """Take the recorded step."""
        self._graph.replay()


def objectives(device: torch.device | str) -> dict[str, Objective]:
    """Return the loss as this library and as plain torch compute it; the product is small enough to form."""
    generator = torch.Generator().manual_seed(1)
    cells = torch.randperm(SIZE * SIZE, generator=generator)[:ENTRIES]
    rows, columns = cells // SIZE, cells % SIZE
    values = torch.randn(ENTRIES, generator=generator)
    observations = Observations(rows, columns, values, (SIZE, SIZE), device=device)
    mask, target = torch.zeros(2, SIZE, SIZE)
    mask[rows, columns], target[rows, columns] = 1.0, values
    mask, target = mask.to(device), target.to(device)

    def dense(factors: list[Tensor]) -> Tensor:
        product = reduce(torch.matmul, reversed(factors))
        return (mask * (product - target)).square().sum() / ENTRIES

    return {"dmf_fast": lambda factors: completion_loss(factors, observations), "dense + autograd": dense}


def launched(device: str, rounds: int = ROUNDS) -> dict[str, float]:
    """Return microseconds a step of every objective at depth 3, from Python and replayed as a CUDA graph."""
    passes: dict[str, Callable[[], None]] = {}
    for name, objective in objectives(device).items():
        passes[f"{name}, from Python"] = Trainer(objective, device).step
        if device == "cuda":
            check_replays(objective)
            passes[f"{name}, CUDA graph"] = Trainer(objective, device).capture().replay
    return {name: 1e6 * value for name, value in median_seconds(passes, rounds, device).items()}


def check_replays(objective: Objective, replays: int = 5) -> None:
    """Make sure that replays of a step train as the steps themselves do."""
    replayed, stepped = Trainer(objective, "cuda").capture(), Trainer(objective, "cuda")
    for _ in range(replays):
        replayed.replay()
    for _ in range(WARM_UP + replays):
        stepped.step()
    torch.testing.assert_close(replayed.factors, stepped.factors, rtol=1e-4, atol=1e-5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    given = parser.parse_args()
    few, many, rounds = (2000, 12_000, 3) if given.device == "cuda" else (10, 60, 1)
    of_block: dict[str, float] = {}
    result: dict[str, dict[str, float]] = {"microseconds_of_one_block": of_block}
    for depth in DEPTHS:
        of_block[f"depth {depth}"] = of_one_block(depth, given.device, few, many, rounds)
        given.output.write_text(json.dumps(result, indent=1) + "\n")
    result["microseconds_launched"] = launched(given.device, ROUNDS if given.device == "cuda" else 1)
    given.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
