"""One training step of the paper's smallest problem, where launches and not arithmetic take the time."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from bench.timing import median_seconds
from dmf_fast import Observations, completion_loss

SIZE, DEPTH, ENTRIES = 100, 3, 2000
LEARNING_RATE = 0.1
WARM_UP = 3
ROUNDS = 9

Objective = Callable[[list[Tensor]], Tensor]


class Trainer:
    """Takes steps of gradient descent on factors that always start the same."""

    def __init__(self, objective: Objective, device: torch.device | str) -> None:
        generator = torch.Generator().manual_seed(0)
        self.factors = [
            (torch.randn(SIZE, SIZE, generator=generator) / SIZE**0.5).to(device).requires_grad_()
            for _ in range(DEPTH)
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


def measure() -> dict[str, object]:
    """Time a step of every objective, launched from Python and replayed as one CUDA graph."""
    passes: dict[str, Callable[[], None]] = {}
    for name, objective in objectives("cuda").items():
        check_replays(objective)
        passes[f"{name}, from Python"] = Trainer(objective, "cuda").step
        passes[f"{name}, CUDA graph"] = Trainer(objective, "cuda").capture().replay
    seconds = median_seconds(passes, ROUNDS, "cuda")
    return {
        "problem": f"{SIZE}×{SIZE}, depth {DEPTH}, {ENTRIES} entries",
        "microseconds": {name: 1e6 * value for name, value in seconds.items()},
    }


def check_replays(objective: Objective, replays: int = 5) -> None:
    """Make sure that replays of a step train as the steps themselves do."""
    replayed, stepped = Trainer(objective, "cuda").capture(), Trainer(objective, "cuda")
    for _ in range(replays):
        replayed.replay()
    for _ in range(WARM_UP + replays):
        stepped.step()
    torch.testing.assert_close(replayed.factors, stepped.factors, rtol=1e-4, atol=1e-5)
