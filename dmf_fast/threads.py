"""Temporary changes of torch's number of threads, for the calling thread or for workers; number of cores."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Make torch use a single thread within the context; see `threads_kept`.

    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    """
    with threads_kept():
        use_one_thread()
        yield


def use_one_thread() -> None:
    """Make torch use a single thread in the calling thread.

    This also becomes torch's default for threads started later, so call it within `threads_kept`.
    """
    _use(1)


def _use(threads: int) -> None:
    torch.get_num_threads()  # adopt the default first, as each thread does once, so that it cannot come later
    torch.set_num_threads(threads)


@contextmanager
def one_thread_each(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of ``workers`` threads, in each of which torch uses a single thread; see `threads_kept`.

    >>> with one_thread_each(2) as pool:
    ...     list(pool.map(lambda _: torch.get_num_threads(), range(2)))
    [1, 1]
    """
    with threads_kept(), ThreadPoolExecutor(workers, initializer=use_one_thread) as pool:
        yield pool


@contextmanager
def threads_shared(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of ``workers`` threads with an equal share of torch's threads each; see `threads_kept`.

    The share is at least one thread.

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
    uses = 0  # nested contexts in this thread


@contextmanager
def threads_kept() -> Iterator[None]:
    """Restore torch's number of threads on exit, for the calling thread and as the default for later ones.

    Contexts in several threads may overlap; the number before the first of them is restored. A nested
    context restores the number of the enclosing one.

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


def usable_cores() -> int:
    """Return the number of cores that this process may use; all of them if the system does not say.

    >>> usable_cores() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
