"""`python -m bench.scaling_out_rank CASE …`: the measurements in one process of `bench.scaling_out`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh

from dmf_fast import FitOptions, Observations, Recording, fit
from dmf_fast.distributed import RowBlocks, initial_factors
from dmf_fast.optim import AdaptiveGradientDescent

H = 64
ROUNDS = 5
SECONDS_A_ROUND, STEPS_A_ROUND = 0.4, 12  # at least
WARM_UP = 3  # steps
RARELY = Recording(every=1_000_000)  # the first and the last row alone, which take messages of their own
SCALARS = 6  # doubles in a message of the adaptive step


@dataclass(frozen=True)
class Case:
    """A matrix: its rows are shared out to the processes, equally many entries to each."""

    rows: int
    columns: int
    entries: int

    @property
    def name(self) -> str:
        return f"{self.rows:,} × {self.columns:,}, {self.entries / 1e6:g}M entries"


CASES = {
    "columns": Case(20_000, 60_000, 300_000),
    "netflix": Case(50_000, 17_770, 4_000_000),
    "entries": Case(50_000, 2_000, 5_000_000),
}


def part_of(case: Case, rank: int, size: int, seed: int | None = None) -> Observations:
    """Return the entries of a process' rows, drawn by ``seed``, its rank by default.

    Rows are equally likely; columns follow Zipf's law.
    """
    generator = np.random.default_rng(rank if seed is None else seed)
    rows, entries = case.rows // size, case.entries // size
    weights = np.cumsum(np.arange(1, case.columns + 1, dtype=np.float64) ** -0.6)
    keys = np.empty(0, dtype=np.int64)
    while keys.size < entries:
        draws = int(1.2 * (entries - keys.size)) + 1000
        columns = np.searchsorted(weights / weights[-1], generator.random(draws))
        row_of = generator.integers(rows, size=draws)
        keys = np.unique(np.concatenate([keys, row_of * case.columns + columns.clip(max=case.columns - 1)]))
    keys = np.sort(generator.permutation(keys)[:entries])
    values = torch.from_numpy(generator.standard_normal(entries, dtype=np.float32))
    return Observations(keys // case.columns, keys % case.columns, values, (rows, case.columns))


def steps_of(blocks: RowBlocks) -> Callable[[int], float]:
    """Return what makes so many steps of `fit` and returns their seconds."""

    def run(steps: int) -> float:
        factors = initial_factors(blocks, (blocks.shape[1], H, blocks.shape[0]), 0.1, seed=1)
        options = FitOptions(steps=steps, engine="native")
        result = fit(factors, blocks, AdaptiveGradientDescent, options, recording=RARELY)
        assert result.steps == steps
        return result.seconds

    return run


class Timed:
    """Work whose seconds are taken once a round, begun by all processes together."""

    def __init__(self, work: Callable[[int], float]) -> None:
        """Learn how many steps fill a round: ``work`` makes so many and returns their seconds."""
        work(WARM_UP)
        step = max(work(WARM_UP + 5) - work(WARM_UP), 1e-6) / 5
        self.work, self.steps, self.seconds = (
            work,
            agreed(max(STEPS_A_ROUND, SECONDS_A_ROUND / step)),
            list[float](),
        )

    def round(self) -> None:
        """Add the seconds of a step beyond those that warm up."""
        distributed.barrier()
        first = self.work(WARM_UP)
        distributed.barrier()
        self.seconds.append((self.work(WARM_UP + self.steps) - first) / self.steps)


def in_turns(works: Mapping[str, Callable[[int], float]], rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median seconds of a step of each, which take turns."""
    timed = {name: Timed(work) for name, work in works.items()}
    for _ in range(rounds):
        for one in timed.values():
            one.round()
    return {name: median(one.seconds) for name, one in timed.items()}


def repeated(work: Callable[[], object]) -> Callable[[int], float]:
    """Return what does work so many times and returns the seconds."""

    def run(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            work()
        return time.perf_counter() - start

    return run


def agreed(steps: float) -> int:
    """Return a number of steps that suits the slowest process."""
    fewest = torch.tensor(float(steps))
    distributed.all_reduce(fewest, distributed.ReduceOp.MIN)
    return int(fewest.clamp(2, 500))


@contextmanager
def counted_messages() -> Iterator[list[int]]:
    """Count the bytes of every sum over the processes meanwhile."""
    plain, sizes = distributed.all_reduce, []

    def all_reduce(tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        sizes.append(tensor.numel() * tensor.element_size())
        return plain(tensor, *arguments, **options)

    distributed.all_reduce = all_reduce
    try:
        yield sizes
    finally:
        distributed.all_reduce = plain


def messages_a_step(run: Callable[[int], float]) -> dict[str, float]:
    """Return what all processes add up in a step: bytes, messages, and messages of more than 64 KiB."""
    with counted_messages() as first:
        run(2)
    with counted_messages() as then:
        run(7)
    large = [sum(size > 1 << 16 for size in sizes) for sizes in (first, then)]
    return {
        "bytes": (sum(then) - sum(first)) / 5,
        "messages": (len(then) - len(first)) / 5,
        "large_messages": (large[1] - large[0]) / 5,
    }


def measure(case: Case) -> dict[str, Any]:
    """Measure a step of `fit`, with the others and without, and the terms of the model, in turns."""
    rank, size = distributed.get_rank(), distributed.get_world_size()
    part = part_of(case, rank, size)
    found: dict[str, Any] = {**asdict(case), "processes": size}
    layout, sides = part.layout(), [torch.randn(rows, H) / 8 for rows in part.shape]
    sweep = torch.ops.dmf_fast.completion_loss_gradients
    works = {
        "sweep": repeated(lambda: sweep(*sides, layout.buffer, layout.values, None, 1.0)),
        "alone": steps_of(RowBlocks([part])),
    }
    if size > 1:
        few, gradient = torch.zeros(SCALARS, dtype=torch.float64), torch.zeros(case.columns, H)
        together = steps_of(RowBlocks([part], init_device_mesh("cpu", (size,))))
        found |= {f"{name}_a_step": count for name, count in messages_a_step(together).items()}
        works["scalar"] = repeated(lambda: distributed.all_reduce(few))
        works["gradient"] = repeated(lambda: distributed.all_reduce(gradient))
        works["step"] = together
    seconds = in_turns(works)
    seconds.setdefault("step", seconds["alone"])
    return found | {f"{name}_seconds": taken for name, taken in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+", choices=CASES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    for name in arguments.cases:
        print(json.dumps(measure(CASES[name])), flush=True)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
