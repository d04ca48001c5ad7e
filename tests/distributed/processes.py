"""A function or a command in several processes at once, as torchrun would start them, and its results."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import pickle
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh

SECONDS = 180.0  # others may use the processors

# Processes are forks of one that has imported these: each would take 4 s for that.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["torch._dynamo", "torch.distributed.checkpoint", "torch.distributed.tensor", "pandas",
     "dmf_fast.completion", "dmf_fast.distributed", "dmf_fast.cli.app"]
)  # fmt: skip


def run_processes(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call ``function(mesh, *arguments)`` in so many new processes, and return what each returned.

    ``mesh`` is over all of them, on the CPU, by gloo; each has one thread. The function is one of a module,
    and arguments and results are what pickle takes: it is called with the rank in ``RANK``.

    Raises what the first process that fails has raised, a `ChildProcessError` where one ends without a word,
    and a `TimeoutError` after 180 seconds; none of them is left behind.
    """
    results: dict[int, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        readers: dict[Connection, int] = {}
        processes = []
        for rank in range(count):
            reader, writer = _context.Pipe(duplex=False)
            readers[reader] = rank
            call = (rank, count, folder, writer, function, arguments)
            process = _context.Process(target=_called, args=call, daemon=True)
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


class Ended(NamedTuple):
    """How a process of a command has ended: its exit code, and what it has written."""

    code: int | None
    stdout: str
    stderr: str


def run_command(count: int, *arguments: object, restarts: int = 0) -> list[Ended]:
    """Run ``dmf-fast`` in so many new processes, in this folder, and return how each has ended.

    It gets the variables that torchrun sets, with the number of restarts. Processes that do not end within
    180 seconds are killed.
    """
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    variables = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": str(restarts),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name, str(rank)) for rank in range(count)]
        processes = []
        for rank, folder in enumerate(folders):
            folder.mkdir()
            ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            call = (words, Path.cwd(), folder, variables | ranks)
            processes.append(_context.Process(target=_commanded, args=call, daemon=True))
            processes[-1].start()
        end, ended = time.monotonic() + SECONDS, []
        for process, folder in zip(processes, folders, strict=True):
            process.join(end - time.monotonic())
            process.kill()
            process.join()
            ended.append(Ended(process.exitcode, *((folder / name).read_text() for name in _STREAMS)))
            process.close()
    return ended


_STREAMS = {"stdout": 1, "stderr": 2}


def _commanded(words: list[str], here: Path, folder: Path, variables: dict[str, str]) -> None:
    """Run in the new process: run the command, with streams of its own."""
    from dmf_fast.cli.app import main

    os.environ.update(variables)
    os.chdir(here)
    for name, descriptor in _STREAMS.items():
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = ["dmf-fast", *words]
    main()
