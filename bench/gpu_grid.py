"""`python -m bench.gpu_grid`: the paper's grid of 48 completion runs at once, a block of the GPU each."""

from __future__ import annotations

import argparse
import itertools
import json
import time
from functools import partial

import torch

from dmf_fast.experiments import low_rank_problem
from dmf_fast.initialization import initialize
from dmf_fast.optim import GroupRMSprop
from dmf_fast.training import FitOptions, Recording, Trial, fit_many

MILLION_STEPS = 1_000_000


def trials(device: torch.device | str, steps: int) -> list[Trial]:
    """Return depth 2, 3, 4 × 4 init scales × 2 learning rates × 2,000 and 5,000 observed of 100 × 100."""
    problems = {
        observed: low_rank_problem(100, 100, 5, observed, seed=0).train.to(device)
        for observed in (2_000, 5_000)
    }
    grid = itertools.product((2, 3, 4), (1e-3, 1e-4, 1e-5, 1e-6), (1e-3, 3e-4), problems)
    return [
        Trial(
            {"depth": depth, "init_scale": init_scale, "lr": lr, "observed": observed},
            initialize("gaussian", (100,) * (depth + 1), init_scale, seed=0, device=device),
            problems[observed],
            partial(GroupRMSprop, lr=lr),
            FitOptions(steps=steps, progress=False),
            Recording(every=max(1, steps // 10)),
        )
        for depth, init_scale, lr, observed in grid
    ]


def measure(device: torch.device | str = "cuda", steps: int = 20_000) -> dict[str, float]:
    """Time the grid with fewer steps, after a warm-up, and say how long a million would take."""
    fit_many(trials(device, 10))
    given = trials(device, steps)
    start = time.perf_counter()
    ended = fit_many(given).results
    seconds = time.perf_counter() - start
    assert all(one.result.steps == steps for one in ended)
    return {"runs": len(ended), "steps": steps, "seconds": seconds} | {
        "seconds_of_a_million_steps": seconds * MILLION_STEPS / steps
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=MILLION_STEPS)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.device, arguments.steps), indent=1))


if __name__ == "__main__":
    main()
