"""The same numbers, bit for bit, in forked and spawned processes and in threads at once."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dmf_fast import Observations, completion_loss
from dmf_fast.training import fit
from tests.torture import problems
from tests.torture.children import Child
from tests.torture.findings import Findings
from tests.torture.targets.folders import digest

_TASKS = 6


def numbers_of(observed: Observations, model: Any) -> str:
    """Return a digest of all that kernels make of observations and a model."""
    sides = ((4, observed.shape[1]), (observed.shape[0], 4))
    factors = [
        torch.linspace(-1, 1, m * n, dtype=torch.float64).reshape(m, n).requires_grad_() for m, n in sides
    ]
    loss = completion_loss(factors, observed)
    loss.backward()
    trial, start = problems.trial(), problems.factors()
    options = replace(trial.options, checkpoint_every=None)
    fit(start, trial.train, trial.optimizer, options, recording=trial.recording)
    rows, columns = observed.coordinates()
    users = model.row_ids_.ids.to_pylist()
    return digest(
        rows.tolist(), columns.tolist(), observed.values.tolist(), loss.item(),
        [None if factor.grad is None else factor.grad.tolist() for factor in factors],
        [factor.tolist() for factor in start],
        np.asarray(model.predict([(user, "x") for user in users])).tolist(), str(model.recommend(users, 2)),
    )  # fmt: skip


def compare(name: str, seed: str, seconds: float, scratch: Path) -> Findings:
    """Compare numbers of this process with those of others, for so many seconds."""
    findings, ends = Findings("processes"), time.monotonic() + seconds
    pool = POOLS[name]
    number = 0
    while number == 0 or time.monotonic() < ends:
        number += 1
        findings.tried += _TASKS
        ending = Child(lambda n=number: _compared(pool, n)).wait(120.0)  # type: ignore[misc]
        if ending.crash or ending.code:
            last = (ending.output.strip().splitlines() or [""])[-1]
            findings.add(f"{name}: {ending.crash or last[:300]}")
    return findings


def _compared(pool: Callable[[], Executor], number: int) -> None:
    torch.set_num_threads(2)  # so that there are threads that a fork does not copy
    observed, model = problems.observations(number, (300, 200)), problems.completer(number)
    expected = numbers_of(observed, model)
    with pool() as workers:
        results = [workers.submit(numbers_of, observed, model) for _ in range(_TASKS)]
        for result in results:
            if result.result() != expected:
                raise AssertionError("other numbers than in this process")


def _processes(way: str) -> Callable[[], Executor]:
    # One thread of torch in each, as a DataLoader has it: threads of OpenMP do not come along with a fork.
    return lambda: ProcessPoolExecutor(2, multiprocessing.get_context(way), torch.set_num_threads, (1,))


POOLS: dict[str, Callable[[], Executor]] = {
    "fork": _processes("fork"),
    "spawn": _processes("spawn"),
    "forkserver": _processes("forkserver"),
    "threads": lambda: ThreadPoolExecutor(_TASKS),
}
