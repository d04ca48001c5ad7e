"""Workers with one of torch's threads each, and torch's number of threads as it was when they are done."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch use one thread meanwhile; see `threads_kept`.

    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    """
    with threads_kept():
        use_one_thread()
        yield


def use_one_thread() -> None:
    """Have torch use one thread in the thread that calls this.

    It also becomes torch's default for threads to come, so call it within `threads_kept`.
    """
    _use(1)


def _use(threads: int) -> None:
    torch.get_num_threads()  # takes up the default, as every thread does once, so that it cannot come later
    torch.set_num_threads(threads)


@contextmanager
def one_thread_each(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Give workers of whom each has one of torch's threads; see `threads_kept` for what is left behind.

    >>> with one_thread_each(2) as pool:
    ...     list(pool.map(lambda _: torch.get_num_threads(), range(2)))
    [1, 1]
    """
    with threads_kept(), ThreadPoolExecutor(workers, initializer=use_one_thread) as pool:
        yield pool


@contextmanager
def threads_shared(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Give workers of whom each has the same share of torch's threads, one at least; see `threads_kept`.

    >>> with threads_shared(2) as pool:
    ...     len(list(pool.map(lambda _: torch.get_num_threads(), range(2))))
    2
    """
    share = max(1, torch.get_num_threads() // workers)
    with threads_kept(), ThreadPoolExecutor(workers, initializer=_use, initargs=(share,)) as pool:
        yield pool


class _Kept:
    lock = threading.Lock()
    users = 0
    threads = 0


class _Own(threading.local):
    uses = 0  # in this thread, one within the other


@contextmanager
def threads_kept() -> Iterator[None]:
    """Give torch its number of threads back at the end, to what begins then and to the thread that calls.

    Uses may overlap in several threads: what counts is the number before the first of them. One within
    another gives back that of the outer one.

    >>> with one_thread():
    ...     with threads_kept():
    ...         pass
    ...     torch.get_num_threads()
    1
    """
    with _Kept.lock:
        if _Kept.users == 0:
            _Kept.threads = torch.get_num_threads()
        _Kept.users += 1
    before = torch.get_num_threads()
    _own.uses += 1
    try:
        yield
    finally:
        _own.uses -= 1
        with _Kept.lock:
            _Kept.users -= 1
            _use(before if _own.uses else _Kept.threads)


_own = _Own()
