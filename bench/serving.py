"""`python -m bench.serving`: the ten best unseen columns of all 6040 rows, of 3706 columns, h 64, 1M seen.

Compares `recommend` with the whole product by torch, masked, then `torch.topk`; the same by blocks of rows in
one buffer, with the fastest block size; and, if installed (`pip install implicit`), implicit's `topk`, which
also works by blocks, one per thread; its BLAS gets one thread, since more would compete with those. All have
the seen entries in their preferred form before the clock starts, and take turns in one process; medians, also
of the processor time of all threads. Peak memory beyond model and seen entries is sampled in a fresh process
for each, warmed up on a small problem. Writes one JSON file.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import scipy.sparse
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from bench import machine
from bench.memory import PeakMemory
from bench.problems import MILLION, Problem, skewed
from bench.record import origin, results_file
from bench.timing import median_seconds
from dmf_fast.serving import SeenColumns, TwoFactors, recommend

ROUNDS = 7
H, K = 64, 10
BLOCKS = (64, 256, 1024)
BLAS_THREADS_OF_IMPLICIT = 1

Pass = Callable[[], Tensor]
"""Finds the best columns of all rows, and returns their scores, best first."""


def dmf_fast(problem: Problem) -> Pass:
    two_factors = TwoFactors(problem.a, problem.b_transposed.T)
    seen, rows = SeenColumns.of(problem.observations()), torch.arange(problem.shape[0])
    return lambda: recommend(two_factors, rows, K, seen=seen).scores


def whole_product(problem: Problem) -> Pass:
    a, b = problem.a, problem.b_transposed.T.contiguous()
    places = (problem.rows * problem.shape[1] + problem.columns).sort().values

    def one_pass() -> Tensor:
        scores = a @ b
        scores.view(-1).index_fill_(0, places, -torch.inf)
        return scores.topk(K).values

    return one_pass


def blocks_of_rows(problem: Problem, block: int) -> Pass:
    a, b = problem.a, problem.b_transposed.T.contiguous()
    m, n = problem.shape
    starts = range(0, m, block)
    places = (problem.rows * n + problem.columns).sort().values
    bounds = torch.searchsorted(places, torch.tensor([*(start * n for start in starts), m * n]))
    of_block = [places[bounds[k] : bounds[k + 1]] - start * n for k, start in enumerate(starts)]

    def one_pass() -> Tensor:
        buffer, best = torch.empty(block, n), torch.empty(m, K)
        columns = torch.empty(m, K, dtype=torch.int64)
        for start, masked in zip(starts, of_block, strict=True):
            part = slice(start, min(start + block, m))
            scores = torch.mm(a[part], b, out=buffer[: part.stop - start])
            scores.view(-1).index_fill_(0, masked, -torch.inf)
            torch.topk(scores, K, out=(best[part], columns[part]))
        return best

    return one_pass


def implicit(problem: Problem) -> Pass:
    from implicit.cpu.topk import topk

    items, users = problem.b_transposed.numpy(), problem.a.numpy()
    ones = np.ones(problem.nnz, dtype=np.float32)
    pairs = (problem.rows.numpy(), problem.columns.numpy())
    seen = scipy.sparse.csr_matrix((ones, pairs), shape=problem.shape)
    threads, libraries = torch.get_num_threads(), ThreadpoolController()

    def one_pass() -> Tensor:
        with libraries.limit(limits=BLAS_THREADS_OF_IMPLICIT, user_api="blas"):
            return torch.from_numpy(topk(items, users, K, filter_query_items=seen, num_threads=threads)[1])

    return one_pass


def rivals() -> dict[str, Callable[[Problem], Pass]]:
    """Return what competes here."""
    found: dict[str, Callable[[Problem], Pass]] = {
        "dmf_fast": dmf_fast,
        "whole product + topk": whole_product,
        **{f"blocks of {block} rows + topk": lambda p, b=block: blocks_of_rows(p, b) for block in BLOCKS},
    }
    try:
        import implicit as _  # noqa: F401
    except ImportError:
        return found
    return found | {"implicit": implicit}


def median_processor_seconds(passes: dict[str, Pass], rounds: int) -> dict[str, float]:
    """Return what passes take of all threads, which other work on the machine lengthens less."""
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(rounds):
        for name, one_pass in passes.items():
            start = time.process_time()
            one_pass()
            seconds[name].append(time.process_time() - start)
    return {name: median(times) for name, times in seconds.items()}


def compare(problem: Problem, names: list[str], rounds: int) -> dict[str, Any]:
    """Time passes that find the same scores."""
    passes = {name: rivals()[name](problem) for name in names}
    expected = passes["whole product + topk"]()
    for name, one_pass in passes.items():
        torch.testing.assert_close(one_pass(), expected, rtol=1e-4, atol=1e-4, msg=name)
    # implicit's BLAS has threads of its own, which may keep spinning into the next pass: its turns come last.
    alone = {name: passes.pop(name) for name in names if name == "implicit"}
    seconds = median_seconds(passes, rounds) | median_seconds(alone, rounds)
    processor_seconds = median_processor_seconds(passes, rounds) | median_processor_seconds(alone, rounds)
    flops = 2.0 * problem.shape[0] * problem.shape[1] * problem.h
    return {
        "threads": torch.get_num_threads(),
        "milliseconds": {name: 1e3 * value for name, value in seconds.items()},
        "times_dmf_fast": {name: value / seconds["dmf_fast"] for name, value in seconds.items()},
        "processor_milliseconds": {name: 1e3 * value for name, value in processor_seconds.items()},
        "gflops_of_dmf_fast": flops / seconds["dmf_fast"] / 1e9,
    }


def peak_megabytes(name: str) -> float:
    """Return what a pass needs at its peak, measured in a process of its own."""
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "bench.serving", "--memory", name]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    return float(done.stdout)


def print_peak(name: str) -> None:
    rivals()[name](skewed(100, 100, 1000, H))()  # loads libraries, starts threads
    one_pass = rivals()[name](skewed(*MILLION, H))
    ctypes.CDLL(None).malloc_trim(0)  # memory freed before must not be reused in the pass
    with PeakMemory() as memory:
        one_pass()
    print((memory.peak - memory.start) / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=results_file("serving"))
    parser.add_argument("--memory", choices=list(rivals()), help="Only print the peak memory of one pass.")
    arguments = parser.parse_args()
    if arguments.memory is not None:
        return print_peak(arguments.memory)
    threads = torch.get_num_threads()
    problem, names = skewed(*MILLION, H), list(rivals())
    cases = []
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        cases.append(compare(problem, names, ROUNDS))
        print(json.dumps(cases[-1]))
    report = {
        **origin(),
        "problem": {"rows": MILLION[0], "columns": MILLION[1], "seen": MILLION[2], "h": H, "k": K},
        "blas_threads_of_implicit": BLAS_THREADS_OF_IMPLICIT,
        "machine": machine.measure(threads).as_dict(),
        "cases": cases,
        "peak_megabytes": {name: peak_megabytes(name) for name in names},
    }
    print(json.dumps(report["peak_megabytes"]))
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
