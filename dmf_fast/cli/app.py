"""The commands of ``dmf-fast``: what each is called with, and how bad input is reported."""

from __future__ import annotations

import atexit
import io
import os
import re
import sys
import warnings
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from importlib.abc import MetaPathFinder
from typing import Any

import click

from dmf_fast.checks import did_you_mean, shortened
from dmf_fast.cli import model_options, options
from dmf_fast.cli.command_line import command
from dmf_fast.cli.processes import started_together
from dmf_fast.cli.signals import end_as_ctrl_c_does, exit_code
from dmf_fast.cli.streams import close_streams, prepare_streams, say
from dmf_fast.extras import MissingExtraError
from dmf_fast.files.reading import short_reason
from dmf_fast.options import Options, options_of

COMMANDS: dict[str, type[Options]] = {
    "prepare": options.PrepareOptions,
    "complete": options.CompleteOptions,
    "tune": options.TuneOptions,
    "evaluate": model_options.EvaluateOptions,
    "predict": model_options.PredictOptions,
    "recommend": model_options.RecommendOptions,
    "export": model_options.ExportOptions,
    "report": model_options.ReportOptions,
    "reproduce": options.ReproduceOptions,
    "info": model_options.InfoOptions,
}
"""The options of every command, whose job is the function of its name in the module of its name."""


def main() -> None:
    """Run the command line; bad input ends it with one sentence on standard error and exit code 2."""
    # OpenMP's threads spin at the end of every loop, which takes 100 times as long as sleeping if other work
    # keeps the cores busy. OpenMP reads this when torch loads it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.showwarning = _show_warning
    end_as_ctrl_c_does()
    prepare_streams()
    code = close_streams(_exit_code())
    if started_together():
        # Threads of gloo may still hold tensors when the interpreter shuts down, which aborts the process
        # (https://github.com/pytorch/pytorch/pull/179291): skip the shutdown.
        atexit._run_exitfuncs()
        os._exit(code)
    sys.exit(code)


def _exit_code() -> int:
    """Run the command line and return the exit code; what click reports is made safe to print."""
    try:
        return int(app(prog_name="dmf-fast", obj=_have_pyarrow_do_without_pandas, standalone_mode=False) or 0)
    except click.ClickException as error:
        usage = io.StringIO()
        error.show(usage)
        say(usage.getvalue().rstrip("\n"))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        say("Interrupted.")
        return exit_code()
    except BrokenPipeError:
        return 1
    except OSError as error:  # the help could not be printed
        say(f"Error: {_sentence(error)}")
        return 2


class _Commands(click.Group):
    """Creates a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return command(cmd_name, COMMANDS[cmd_name], partial(_run, cmd_name), _defaults(cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = did_you_mean(args[0], COMMANDS)
            sentence = f"There is no command {shortened(args[0])!r}; {hint or 'dmf-fast --help lists them'}"
            raise click.UsageError(sentence, ctx) from error


app = _Commands("dmf-fast", help="Deep matrix factorization for matrix completion.", no_args_is_help=True)


def _defaults(name: str) -> dict[str, Mapping[str, Any]]:
    """Return the defaults that the help shows, by the case in which they apply."""
    values = {key: option.default for key, option in options_of(COMMANDS[name]).items()}
    if name == "complete":
        return {"": options.CompleteOptions().values(), "the paper's setting": options.PAPER_JOB.values()}
    if name == "tune":
        return {"": values | options.JobOptions().values()}
    return {"": values}


def _run(name: str, given: Mapping[str, Any]) -> None:
    """Run a command, whose module is imported only now."""
    try:
        chosen = COMMANDS[name].of(given)
        prepare = click.get_current_context().obj  # set by `main` only, which owns the process
        if prepare is not None:
            prepare()
        getattr(import_module(f"dmf_fast.cli.{name}"), name)(chosen)
    except (BrokenPipeError, click.exceptions.Exit, click.ClickException):
        raise
    except KeyboardInterrupt:
        say("Interrupted.")
        raise click.exceptions.Exit(exit_code()) from None
    except Exception as error:
        if not _is_of_input(error):
            raise
        say(f"Error: {_sentence(error)}")
        raise click.exceptions.Exit(2) from error


class _NoPandas(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name=fullname)


def _have_pyarrow_do_without_pandas() -> None:
    """Hide pandas from pyarrow, which would spend half a second importing it to make its first array."""
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    import pyarrow

    pyarrow.array([])
    sys.meta_path.remove(finder)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show a warning the way errors are shown, without the line of code that raised it."""
    say(f"Warning: {' '.join(str(message).split())}")


def _is_of_input(error: BaseException | None) -> bool:
    """Return whether the user's input, machine or installation caused an error; trials name their cause."""
    if isinstance(error, ValueError | OSError | MissingExtraError) or _is_of_memory(error):
        return True
    return type(error).__name__ == "TrialError" and _is_of_input(error.__cause__ if error else None)


def _is_of_memory(error: BaseException | None) -> bool:
    """Return whether memory ran out, which torch reports differently from Python."""
    if error is None or isinstance(error, MemoryError):
        return error is not None
    said = isinstance(error, RuntimeError) and re.search(r"can't allocate memory|out of memory", str(error))
    return bool(said) or _is_of_memory(error.__cause__)


def _sentence(error: BaseException) -> str:
    """Return an error as one sentence; only a command to repeat gets a line of its own."""
    if _is_of_memory(error) and not str(error).startswith("there is not enough memory"):
        return f"there is not enough memory ({short_reason(error)}); use a smaller model or a larger machine"
    lines = [" ".join(line.split()) for line in re.split(r"\n  (?=dmf-fast|torchrun)", str(error))]
    return "\n  ".join(lines) or f"{type(error).__name__} without a message"
