"""The processes of a command that torchrun starts; only the first one prints and writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from dmf_fast.cli import streams

if TYPE_CHECKING:  # slow to import, and `started_together` is asked by every command
    from dmf_fast.sharding import RowSharding

# How long a process waits for one that hangs. A process that has ended is noticed at once.
PATIENCE = timedelta(minutes=10)


def started_together() -> bool:
    """Return whether torchrun, or a launcher that sets the same variables, started this process."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()


@contextmanager
def all_processes(threads: int | None, device: str) -> Iterator[RowSharding]:
    """Yield how the processes of this command share rows; only the first one prints.

    Args:
        threads: of each process; None to divide the cores of a machine among its processes.
        device: see `CompletionOptions.device`.

    Raises:
        click.exceptions.Exit: silently, in all but the first process, if `RowSharding.together` raises.

    """
    from dmf_fast.sharding import WHOLE, RowSharding

    if not started_together():
        yield WHOLE
        return
    import torch
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh

    from dmf_fast.completion.job import device_of
    from dmf_fast.threads import usable_cores

    rank = int(os.environ["RANK"])
    streams.keep_silent(rank > 0)
    if threads is None and os.environ.get("OMP_NUM_THREADS", "1") == "1":  # set by torchrun itself
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(max(1, usable_cores() // here))
    kind = device_of(device).type
    if kind == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    _meet()
    try:
        yield RowSharding(init_device_mesh(kind, (distributed.get_world_size(),)))
    except Exception as error:
        # Bad input is an error in all processes; an error of one process alone comes with a note.
        is_of_all = isinstance(error, ValueError) or bool(getattr(error, "__notes__", ()))
        if rank == 0 or not is_of_all:
            streams.keep_silent(False)
            raise
        raise click.exceptions.Exit(2) from None
    finally:
        distributed.destroy_process_group()


def _meet() -> None:
    """Join the process group, also after torchrun has restarted all processes because one failed.

    Raises a `ValueError` if this attempt cannot be told apart from the one before.
    """
    from torch import distributed

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    # torchrun keeps its store across restarts, with the addresses of processes that are gone (torch 2.13).
    if attempt == "0" or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        distributed.init_process_group(timeout=PATIENCE)
        return
    if os.environ.get("GROUP_WORLD_SIZE", "1") != "1":
        raise ValueError(
            "restarts on several machines need TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the environment of "
            "torchrun: set it on each of them, and start with --resume"
        )
    c10d: Any = distributed
    rank, size, port = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    store = c10d.TCPStore(os.environ["MASTER_ADDR"], port, size, is_master=False)
    own = c10d.PrefixStore(f"attempt {attempt}", store)
    distributed.init_process_group(timeout=PATIENCE, store=own, rank=rank, world_size=size)


def is_restarted() -> bool:
    """Return whether torchrun restarted these processes because one of them failed.

    >>> is_restarted()
    False
    """
    return started_together() and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def as_started(command: str) -> str:
    """Return a command with the launcher that started this one, for people to repeat.

    >>> as_started("dmf-fast complete")
    'dmf-fast complete'
    """
    if not started_together():
        return command
    count, here = os.environ["WORLD_SIZE"], os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])
    machines = "" if count == here else f" --nnodes {int(count) // int(here)}"
    return command.replace("dmf-fast", f"torchrun{machines} --nproc-per-node {here} -m dmf_fast.cli", 1)
