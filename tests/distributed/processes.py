"""A function in several processes at once, as torchrun would start them, and what it returns in each."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh

SECONDS = 60.0


def run_processes(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call ``function(mesh, *arguments)`` in so many new processes, and return what each returned.

    ``mesh`` is over all of them, on the CPU, by gloo; each has one thread. The function is one of a module,
    and arguments and results are what pickle takes: it is called with the rank in ``RANK``. Starting takes
    3 seconds a process, so that one call should check several things.

    Raises what the first process that fails has raised, a `ChildProcessError` where one ends without a word,
    and a `TimeoutError` after 60 seconds; none of them is left behind.
    """
    context = multiprocessing.get_context("spawn")
    results: dict[int, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        readers: dict[Connection, int] = {}
        processes = []
        for rank in range(count):
            reader, writer = context.Pipe(duplex=False)
            readers[reader] = rank
            call = (rank, count, folder, writer, function, arguments)
            process = context.Process(target=_called, args=call, daemon=True)
            process.start()
            writer.close()
            processes.append(process)
        try:
            end = time.monotonic() + SECONDS
            while readers:
                ready = wait(list(readers), end - time.monotonic())
                if not ready:
                    late = sorted(readers.values())
                    raise TimeoutError(f"processes {late} of {count} did not end within {SECONDS:.0f} s")
                for reader in [one for one in readers if one in ready]:
                    rank = readers.pop(reader)
                    results[rank] = _received(rank, reader)
        finally:
            for process in processes:
                process.join(0 if readers else 5)
                process.kill()
                process.join()
                process.close()
            for reader in readers:
                reader.close()
    return [results[rank] for rank in range(count)]


def _received(rank: int, reader: Connection) -> Any:
    """Return what a process has returned; raise what it has raised."""
    try:
        is_well, value, where = pickle.loads(reader.recv_bytes())
    except EOFError:
        raise ChildProcessError(f"process {rank} ended without a word") from None
    finally:
        reader.close()
    if not is_well:
        raise value from RuntimeError(f"in process {rank}:\n{where}")
    return value


def _called(
    rank: int,
    count: int,
    folder: str,
    writer: Connection,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    """Run in the new process: call the function and send what it returns or raises."""
    faulthandler.dump_traceback_later(SECONDS - 5, exit=False)  # says where one hangs
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(count),
        LOCAL_WORLD_SIZE=str(count),
        GLOO_SOCKET_IFNAME="lo",
    )
    torch.set_num_threads(1)
    try:
        distributed.init_process_group(
            "gloo",
            init_method=(Path(folder) / "store").as_uri(),
            rank=rank,
            world_size=count,
            timeout=timedelta(seconds=SECONDS),
        )
        answer = pickle.dumps((True, function(init_device_mesh("cpu", (count,)), *arguments), ""))
    except BaseException as error:
        answer = _failure(error)
    writer.send_bytes(answer)
    writer.close()
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _failure(error: BaseException) -> bytes:
    where = traceback.format_exc()
    try:
        return pickle.dumps((False, pickle.loads(pickle.dumps(error)), where))
    except Exception:  # it holds what no other process can have
        return pickle.dumps((False, ChildProcessError(f"{type(error).__name__}: {error}"), where))
