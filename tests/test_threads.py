"""torch's number of threads: one in every worker, and restored after overlapping calls."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import pytest
import torch

from dmf_fast import Observations
from dmf_fast.initialization import initialize
from dmf_fast.threads import threads_kept, usable_cores, use_one_thread
from dmf_fast.training import FitOptions, Trial, fit_many

Result = TypeVar("Result")


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def in_a_new_thread(function: Callable[[], Result]) -> Result:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_a_worker_has_one_thread_though_another_use_ends_meanwhile() -> None:
    with threads_kept(), ThreadPoolExecutor(1, initializer=use_one_thread) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
        with threads_kept(), ThreadPoolExecutor(1, initializer=use_one_thread) as other:
            assert other.submit(torch.get_num_threads).result() == 1
        assert pool.submit(torch.get_num_threads).result() == 1
    assert torch.get_num_threads() == in_a_new_thread(torch.get_num_threads) == 3


def test_uses_that_overlap_leave_the_number_of_before() -> None:
    """One begins, another begins, the first ends, the other ends: each in a thread of its own."""
    first_is_in, other_is_in, first_is_out = (threading.Event() for _ in range(3))

    def first() -> int:
        with threads_kept():
            in_a_new_thread(use_one_thread)
            first_is_in.set()
            assert other_is_in.wait(60)
        first_is_out.set()
        return torch.get_num_threads()

    def other() -> int:
        assert first_is_in.wait(60)
        with threads_kept():
            other_is_in.set()
            assert first_is_out.wait(60)
            in_a_new_thread(use_one_thread)
        return torch.get_num_threads()

    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(function) for function in (first, other)]
        assert [end.result() for end in ends] == [3, 3]
    assert torch.get_num_threads() == in_a_new_thread(torch.get_num_threads) == 3


def test_calls_of_fit_many_in_several_threads_leave_the_number_of_before() -> None:
    train = Observations([0, 1, 2], [0, 1, 2], [1.0, 2.0, 3.0], (3, 3))

    def run(seed: int) -> int:
        factors = initialize("gaussian", (3, 3), 0.3, seed=seed)
        options = FitOptions(steps=200 * seed)
        fit_many(
            [Trial({"seed": seed}, factors, train, partial(torch.optim.SGD, lr=0.1), options)], workers=2
        )
        return torch.get_num_threads()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(20))) == [3] * 20
    assert torch.get_num_threads() == in_a_new_thread(torch.get_num_threads) == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_usable_cores_are_those_that_the_process_is_bound_to() -> None:
    bound = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(bound)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, bound)
    assert usable_cores() == len(bound)


def test_usable_cores_are_all_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert usable_cores() == 12
