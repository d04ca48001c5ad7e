"""`python -m bench.contention`: the cost of other processes that keep all cores busy.

Measures, next to an endless loop for every core: the whole command `dmf-fast complete u1.base --test u1.test`
on MovieLens 100K; `fit` on 100 x 100, by torch and natively; and `completion_loss` with backward on a million
entries. Quiet and busy rounds take turns; reports medians and their ratio. A fair share of the cores is a
ratio of 2; waiting for threads that the system has suspended costs more. Writes one JSON file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch

from bench import machine
from bench.problems import MILLION, movielens_folder, skewed
from bench.record import origin, results_file
from dmf_fast import DeepMatrixFactorization, completion_loss, fit
from dmf_fast.experiments import low_rank_problem
from dmf_fast.threads import usable_cores
from dmf_fast.training import FitOptions

ROUNDS = 5
STEPS = 200
LOSSES = 20
H = 64

Pass = Callable[[], object]


def complete_command() -> Pass | None:
    """Return the whole command, where MovieLens 100K is here."""
    train, test = movielens_folder() / "u1.base", movielens_folder() / "u1.test"
    if not (train.is_file() and test.is_file()):
        return None
    command = [sys.executable, "-m", "dmf_fast.cli", "complete", str(train), "--test", str(test)]
    return lambda: subprocess.run(command, check=True, capture_output=True)


def fit_with(engine: str) -> Pass:
    """Return steps of gradient descent on the paper's own problem."""
    train = low_rank_problem(100, 100, 5, 2_000, seed=0).train

    def one_pass() -> None:
        model = DeepMatrixFactorization((100, 100), 2, 100)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        fit(model, train, optimizer, FitOptions(steps=STEPS, engine=engine))

    return one_pass


def loss_and_backward() -> Pass:
    """Return losses with their gradients, one after the other."""
    problem = skewed(*MILLION, H)
    observations = problem.observations()
    factors = [problem.b_transposed.T.contiguous().requires_grad_(), problem.a.clone().requires_grad_()]

    def one_pass() -> None:
        for _ in range(LOSSES):
            for factor in factors:
                factor.grad = None
            torch.autograd.backward(completion_loss(factors, observations))

    return one_pass


@contextmanager
def busy_cores() -> Iterator[None]:
    """Keep every core that this process may use busy with an endless loop."""
    command = [sys.executable, "-c", "while True: pass"]
    loops = [subprocess.Popen(command) for _ in range(usable_cores())]
    time.sleep(0.5)  # until they run
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def seconds_of(one_pass: Pass) -> float:
    start = time.perf_counter()
    one_pass()
    return time.perf_counter() - start


def compare(one_pass: Pass, rounds: int) -> dict[str, float]:
    """Return the median seconds of a pass, quiet and busy, and their ratio."""
    one_pass()
    quiet, busy = [], []
    for _ in range(rounds):
        quiet.append(seconds_of(one_pass))
        with busy_cores():
            busy.append(seconds_of(one_pass))
    return {
        "quiet_seconds": median(quiet),
        "busy_seconds": median(busy),
        "ratio": median(busy) / median(quiet),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=results_file("contention"))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    passes = {
        "complete u1.base --test u1.test": complete_command(),
        f"fit, {STEPS} steps of SGD, 100 x 100, torch": fit_with("torch"),
        f"fit, {STEPS} steps of SGD, 100 x 100, native": fit_with("native"),
        f"completion_loss and backward, {LOSSES} times, 1M entries, h {H}": loss_and_backward(),
    }
    cases = {}
    for name, one_pass in passes.items():
        if one_pass is None:
            print(f"{name}: skipped; set DMF_FAST_DATA to the folder that holds ml-100k/")
            continue
        cases[name] = compare(one_pass, arguments.rounds)
        print(name, json.dumps(cases[name]))
    report = {
        **origin(),
        "machine": machine.measure(torch.get_num_threads()).as_dict(),
        "cores": usable_cores(),
        "cases": cases,
    }
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
