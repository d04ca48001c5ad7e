"""A grid of runs that any number of processes and machines share; see docs/grids.md."""

from functools import partial

import pyarrow as pa
import torch

from dmf_fast import FitOptions, fit_many
from dmf_fast.experiments import low_rank_problem
from dmf_fast.initialization import initialize
from dmf_fast.training import Trial


def run(workers: int | None = None) -> pa.Table:
    """Train two depths from three seeds each."""
    problem = low_rank_problem(100, 100, 5, 2000, seed=0)
    trials = [
        Trial(
            {"depth": depth, "seed": seed},
            initialize("gaussian", (100,) * (depth + 1), 1e-2, seed=seed),
            problem.train,
            partial(torch.optim.Adam, lr=1e-3),
            FitOptions(steps=1000),
        )
        for depth in (2, 3)
        for seed in range(3)
    ]
    return fit_many(trials, folder="runs/grid", workers=workers).summary()


if __name__ == "__main__":
    print(run(workers=1)["train_loss"])
