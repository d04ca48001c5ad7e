"""The frame of a job that trains: its folder, and how it goes on after Ctrl-C or a full disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib.metadata import version

import torch
import typer
from safetensors import SafetensorError

from dmf_fast.cli.option import command_line
from dmf_fast.cli.output_folder import OutputFolder
from dmf_fast.cli.settings import JobSettings
from dmf_fast.cli.tensorboard_log import check_tensorboard


class Interrupted(KeyboardInterrupt):
    """Ctrl-C came, and where."""


@contextmanager
def running_job(command: str, given: JobSettings) -> Iterator[OutputFolder | None]:
    """Give the output folder of a job, None without ``--out``; it is there when the block has ended well.

    Args:
        command: the name of the job.
        given: its settings as the user gave them, and not as they were resolved.

    Raises:
        typer.Exit: with 130 after Ctrl-C; standard error then has the command that goes on.
        ValueError, OSError: as `OutputFolder` and the block; a full disk keeps the checkpoint before it.

    """
    settings = given.resolved()
    if settings.tensorboard is not None:
        check_tensorboard()
    folder = None
    if settings.out is not None:
        folder = OutputFolder(settings.out, overwrite=settings.overwrite, resume=settings.resume)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    description = {"version": version("dmf-fast"), "command": command, **settings.fingerprint()}
    try:
        with nullcontext() if folder is None else folder.opened(description):
            yield folder
    except KeyboardInterrupt as interrupt:
        place = f" {interrupt}" if str(interrupt) else ""
        typer.echo(f"Interrupted{place}: {_how_to_go_on(command, given, folder)}", err=True)
        raise typer.Exit(130) from None
    except (OSError, SafetensorError) as error:
        if folder is None:
            raise
        raise OSError(
            f"{folder.path} cannot be written ({error}): {_how_to_go_on(command, given, folder)}"
        ) from error


def _how_to_go_on(command: str, given: JobSettings, folder: OutputFolder | None) -> str:
    if folder is not None and folder.holds_checkpoint:
        return f"what was done up to the last checkpoint is kept; go on with\n  {_resuming(command, given)}"
    if folder is not None and given.checkpoint_every != 0:
        return "there was no checkpoint yet, so nothing is kept."
    return "nothing is kept; with --out FOLDER and checkpoints it would be."


def _resuming(command: str, given: JobSettings) -> str:
    return command_line(command, replace(given, overwrite=False, resume=True))
