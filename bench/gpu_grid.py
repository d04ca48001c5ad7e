"""`python -m bench.gpu_grid`: the paper's grid of 48 completion runs at once, a block of the GPU each."""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

from bench.gpu_runs import ENGINES
from dmf_fast.experiments import low_rank_problem
from dmf_fast.initialization import initialize
from dmf_fast.optim import GroupRMSprop
from dmf_fast.training import FitOptions, Recording, Trial, fit_many

MILLION_STEPS = 1_000_000
# Depths × init scales × learning rates × how many are observed.
GRID = tuple(itertools.product((2, 3, 4), (1e-3, 1e-4, 1e-5, 1e-6), (1e-3, 3e-4), (2_000, 5_000)))

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


def measure(
    device: str, few: int, many: int, rounds: int = 1, kinds: Sequence[Kind] = GRID
) -> dict[str, float]:
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
        "microseconds_a_step_of_all": 1e6 * seconds_a_step,
        "seconds_of_a_million_steps": of_few + seconds_a_step * (MILLION_STEPS - few),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    given = parser.parse_args()
    result = measure(given.device, *((2000, 52_000) if given.device == "cuda" else (2, 6)))
    given.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
