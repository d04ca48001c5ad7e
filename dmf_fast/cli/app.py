"""The commands of ``dmf-fast``: what each is called with, and how bad input is reported."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from importlib.abc import MetaPathFinder
from typing import Any

import click

from dmf_fast.cli import options
from dmf_fast.cli.command_line import command
from dmf_fast.options import Options, options_of

COMMANDS: dict[str, type[Options]] = {
    "complete": options.CompleteOptions,
    "tune": options.TuneOptions,
    "evaluate": options.EvaluateOptions,
    "predict": options.PredictOptions,
    "recommend": options.RecommendOptions,
    "export": options.ExportOptions,
    "reproduce": options.ReproduceOptions,
    "info": options.InfoOptions,
}
"""The options of every command, whose job is the function of its name in the module of its name."""


def main() -> None:
    """Run the command line; bad input ends with one sentence on standard error and the exit code 2."""
    # OpenMP's threads spin at the end of every loop: where other work keeps the cores busy, that takes 100
    # times as long as to sleep. OpenMP reads this when torch loads it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.showwarning = _show_warning
    app(prog_name="dmf-fast", obj=_have_pyarrow_do_without_pandas)


class _Commands(click.Group):
    """Makes a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return command(cmd_name, COMMANDS[cmd_name], partial(_run, cmd_name), _defaults(cmd_name))


app = _Commands("dmf-fast", help="Deep matrix factorization for matrix completion.", no_args_is_help=True)


def _defaults(name: str) -> dict[str, Mapping[str, Any]]:
    """Return the defaults that the help shows, by what they are the defaults of."""
    values = {key: option.default for key, option in options_of(COMMANDS[name]).items()}
    if name == "complete":
        return {"": options.CompleteOptions().values(), "the paper's setting": options.PAPER_JOB.values()}
    if name == "tune":
        return {"": values | options.JobOptions().values()}
    return {"": values}


def _run(name: str, given: Mapping[str, Any]) -> None:
    """Do the job of a command; its module is imported only now."""
    try:
        chosen = COMMANDS[name].of(given)
        prepare = click.get_current_context().obj  # what `main` alone does, as it has the process to itself
        if prepare is not None:
            prepare()
        getattr(import_module(f"dmf_fast.cli.{name}"), name)(chosen)
    except (BrokenPipeError, click.exceptions.Exit, click.ClickException):
        raise
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        raise click.exceptions.Exit(130) from None
    except Exception as error:
        from safetensors import SafetensorError

        if not isinstance(error, ValueError | OSError | MemoryError | SafetensorError):
            raise
        click.echo(f"Error: {_sentence(error)}", err=True)
        raise click.exceptions.Exit(2) from error


class _NoPandas(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name=fullname)


def _have_pyarrow_do_without_pandas() -> None:
    """Have pyarrow look for pandas in vain: it imports it, for half a second, to make its first array."""
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    import pyarrow

    pyarrow.array([])
    sys.meta_path.remove(finder)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show a warning as errors are shown, without the place in the code that it comes from."""
    click.echo(f"Warning: {' '.join(str(message).split())}", err=True)


def _sentence(error: BaseException) -> str:
    """Return an error as a sentence; only a command to repeat has a line of its own."""
    lines = [" ".join(line.split()) for line in str(error).split("\n  dmf-fast")]
    return "\n  dmf-fast ".join(lines) or f"{type(error).__name__} without a message"
