"""`python -m bench.ratings`: the cost of a job on ratings: a step compared with its sweep, and the whole job.

The step is that of the native engine with the defaults: scaled coordinates, biases, decay, the adaptive step.
Its sweep is the raw operator that gives loss and gradients of the same entries, at the width of the
factors, and with two columns more, which is how that operator has biases. With `--before FOLDER`, a checkout
of another commit whose libraries are built, the whole job is run there too, in processes that take turns;
medians. Writes one JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

# Otherwise, threads of torch that still spin disturb the next pass.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from bench.problems import movielens_ratings
from bench.rating_problems import SIZES, ratings_problem
from bench.record import origin, results_file
from bench.timing import median_seconds
from dmf_fast import FitOptions, Observations
from dmf_fast.completion import FAST, CompletionOptions
from dmf_fast.completion.phases import begin
from dmf_fast.completion.starts import Phase, Prepared
from dmf_fast.evaluation import Biases
from dmf_fast.training.engines.native import NativeEngine

ROUNDS = 15
HIDDEN = 64

# Runs in either checkout: both have `complete_matrix(observed, options)`. Before depth was found, it was 2.
JOB = """
import json, sys, time, torch
from dmf_fast import Observations
from dmf_fast.completion import CompletionOptions, complete_matrix
data = torch.load(sys.argv[1])
torch.set_num_threads(int(sys.argv[2]))
observed, test = (Observations(*data[name], tuple(data["shape"])) for name in ("train", "test"))
observed.layout(), test.layout()
seconds = []
for _ in range(int(sys.argv[3])):
    start = time.perf_counter()
    done = complete_matrix(observed, CompletionOptions(**json.loads(sys.argv[4])))
    seconds.append(time.perf_counter() - start)
steps = [done.steps, done.refit_steps] if hasattr(done, "steps") else [done.search.steps, done.refit.steps]
rmse = done.model.loss(test).sqrt().item()
print(json.dumps({"seconds": seconds, "rmse": rmse, "steps": steps}))
"""


def problems(which: str) -> dict[str, tuple[Observations, Observations]]:
    """Return the training and test ratings by the name of the problem."""
    found = {}
    parts = [movielens_ratings(f"u1.{name}") for name in ("base", "test")]
    if None not in parts:
        found["MovieLens 100K, u1"] = tuple(parts)
    if which != "small":
        problem = ratings_problem(*SIZES["1M"])
        found["synthetic, 1M"] = tuple(
            Observations(part.rows, part.columns, part.values.astype(np.float32), problem.shape)
            for part in (problem.all_train, problem.test)
        )
    return found


def step_and_sweep(train: Observations, threads: int) -> dict[str, float]:
    """Time a native step and the raw operator on the same entries."""
    torch.set_num_threads(threads)
    options = CompletionOptions(hidden=HIDDEN)
    start = begin(Phase(2, "spectral"), Prepared.of(train, None, options, Biases.fit(train)), options)
    engine = NativeEngine(start.model, train, start.optimizer, FitOptions())
    part = train.split(0.05, 0)[1]
    layout, (rows, columns) = train.layout(), train.shape

    def sweep(width: int) -> Any:
        a, b = torch.randn(rows, width), torch.randn(columns, width)
        arguments = (a, b, layout.buffer, layout.values, layout.weights, 1e-6)
        return lambda: torch.ops.dmf_fast.completion_loss_gradients(*arguments)

    def validated() -> None:
        engine.run(engine.step + 1, most_seconds=60.0)
        engine.mean_squared_error(part)
        engine.keep()

    passes = {
        "sweep": sweep(HIDDEN),
        "sweep with two more columns": sweep(HIDDEN + 2),
        "step": lambda: engine.run(engine.step + 1, most_seconds=60.0),
        "step, validated and kept": validated,
    }
    return median_seconds(passes, ROUNDS)


def jobs(
    train: Observations,
    test: Observations,
    threads: int,
    checkouts: dict[str, tuple[Path, dict[str, Any]]],
    rounds: int,
) -> dict[str, Any]:
    """Return seconds and test RMSE of the whole job in every checkout with its options, in turns."""
    data = {"train": [*train.coordinates(), train.values], "test": [*test.coordinates(), test.values]}
    file = Path(os.environ.get("TMPDIR", "/tmp")) / f"bench-ratings-{os.getpid()}.pt"
    torch.save(data | {"shape": list(train.shape)}, file)
    seconds: dict[str, list[float]] = {name: [] for name in checkouts}
    found: dict[str, Any] = {}
    try:
        for _ in range(rounds):
            for name, (folder, options) in checkouts.items():
                done = subprocess.run(
                    [sys.executable, "-c", JOB, str(file), str(threads), "3", json.dumps(options)],
                    cwd=folder,
                    env=_environment(folder),
                    capture_output=True,
                    text=True,
                    check=True,
                )
                one = json.loads(done.stdout.splitlines()[-1])
                seconds[name] += one.pop("seconds")[1:]  # the first loads what a process loads once
                found[name] = one
    finally:
        file.unlink()
    return {name: found[name] | {"seconds": median(seconds[name])} for name in checkouts}


def _environment(folder: Path) -> dict[str, str]:
    """Return what a user of a checkout has."""
    kept = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    return kept | {"PYTHONPATH": str(folder)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="another checkout, whose libraries are built")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="processes a checkout")
    parser.add_argument("--problems", choices=("small", "all"), default="all")
    parser.add_argument("--output", type=Path, default=results_file("ratings"))
    arguments = parser.parse_args()
    checkouts: dict[str, tuple[Path, dict[str, Any]]] = {
        "automatic depth": (Path.cwd(), {}),
        "depth 2": (Path.cwd(), {"depth": 2}),
        "fast": (Path.cwd(), {"depth": FAST.depth, "hidden": FAST.hidden, "optimizer": FAST.optimizer}),
    }
    if arguments.before is not None:
        checkouts["before"] = (arguments.before, {})
    report: dict[str, Any] = {**origin(), "threads": arguments.threads, "problems": {}}
    for name, (train, test) in problems(arguments.problems).items():
        steps = step_and_sweep(train, arguments.threads)
        job = jobs(train, test, arguments.threads, checkouts, arguments.rounds)
        report["problems"][name] = {"seconds": steps, "job": job}
        shown = ", ".join(f"{what} {1e3 * value:.3f} ms" for what, value in steps.items())
        print(f"{name}: {shown}; step / sweep {steps['step'] / steps['sweep']:.2f}, "
              f"validated {steps['step, validated and kept'] / steps['sweep']:.2f}")  # fmt: skip
        for where, one in job.items():
            print(
                f"  job, {where}: {one['seconds']:.3f} s, test RMSE {one['rmse']:.4f}, steps {one['steps']}"
            )
        for other in job.keys() - {"automatic depth"}:
            print(
                f"  automatic depth / {other} {job['automatic depth']['seconds'] / job[other]['seconds']:.2f}"
            )
    report["load_average"] = os.getloadavg()
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
