"""What surrounds a training job: its folder, and how it resumes after Ctrl-C or a full disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import torch

from dmf_fast import __version__
from dmf_fast.checks import printable
from dmf_fast.cli.command_line import command_line
from dmf_fast.cli.options import JobOptions
from dmf_fast.cli.output_folder import OutputFolder
from dmf_fast.cli.processes import as_started
from dmf_fast.cli.signals import exit_code
from dmf_fast.cli.streams import say
from dmf_fast.cli.targets import check_apart, check_standard_input, check_utf8
from dmf_fast.extras import require
from dmf_fast.sharding import WHOLE, RowSharding


class Interrupted(KeyboardInterrupt):
    """Ctrl-C was pressed; the message says at which point."""


@contextmanager
def running_job(
    command: str, options: JobOptions, sharding: RowSharding = WHOLE
) -> Iterator[OutputFolder | None]:
    """Yield the output folder of a job, None without ``--out``; it is published when the block succeeds.

    Args:
        command: the name of the job.
        options: its options.
        sharding: how processes share the rows; only the first process has the folder.

    Raises:
        click.exceptions.Exit: with code 130 after Ctrl-C, and similarly after other signals; the command to
            resume is printed on standard error.
        ValueError, OSError: from `OutputFolder` and the block; if the disk is full, the last checkpoint
            stays.

    """
    output = options.output
    if output.threads is not None:
        torch.set_num_threads(output.threads)
    folder = None
    try:
        with ExitStack() as stack:
            folder = sharding.together(
                lambda: _opened_folder(command, options, stack) if sharding.rank == 0 else None
            )
            yield folder
    except KeyboardInterrupt as interrupt:
        place = f" {interrupt}" if str(interrupt) else ""
        say(f"Interrupted{place}: {_how_to_resume(command, options, folder)}")
        raise click.exceptions.Exit(exit_code()) from None
    except OSError as error:
        if folder is None:
            raise
        what = f"{printable(folder.path)} cannot be written ({error})"
        raise OSError(f"{what}: {_how_to_resume(command, options, folder)}") from error


def _opened_folder(command: str, options: JobOptions, stack: ExitStack) -> OutputFolder | None:
    """Return the folder, locked until the stack unwinds."""
    output = options.output
    inputs = {
        "RATINGS": options.ratings,
        "--test": options.data.test,
        "--validation": options.data.validation,
    }
    check_standard_input(inputs)
    for name, place in (("--cache", options.data.cache), ("--tensorboard", output.tensorboard)):
        if place is not None:
            check_utf8(name, place)
    if output.tensorboard is not None:
        require("`--tensorboard`", "tensorboard")
    if output.out is None:
        return None
    _check_apart(options, output.out, inputs)
    folder = OutputFolder(output.out, overwrite=output.overwrite, resume=output.resume)
    stack.enter_context(folder.opened({"version": __version__, "command": command, **options.fingerprint()}))
    return folder


def _check_apart(options: JobOptions, out: Path, inputs: Mapping[str, Path | None]) -> None:
    """Raise a `ValueError` if the folder would replace what the job reads, or lie inside it."""
    context = click.get_current_context(silent=True)
    config = None if context is None else context.params.get("config")
    more = {"--cache": options.data.cache, "--config": config}
    check_apart(f"--out {printable(out)}", out, {**inputs, **more})
    logs = {"--tensorboard": options.output.tensorboard}
    check_apart(f"--out {printable(out)}", out, logs, may_lie_in_them=True)


def _how_to_resume(command: str, options: JobOptions, folder: OutputFolder | None) -> str:
    if folder is not None and folder.holds_checkpoint:
        return f"the work up to the last checkpoint is kept; resume with\n  {_resuming(command, options)}"
    if folder is not None and options.completion.fit.checkpoint_every != 0:
        return "nothing is kept, as there was no checkpoint yet."
    return "nothing is kept; with --out FOLDER and checkpoints, the job could be resumed."


def _resuming(command: str, options: JobOptions) -> str:
    given = {key: value for key, value in options.given.items() if key != "overwrite"}
    return as_started(command_line(command, type(options), {**given, "resume": True}))
