"""The commands of ``dmf-fast``: each takes its options from a settings class and reports bad input."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

import typer

from dmf_fast.cli.complete import complete
from dmf_fast.cli.predict import PredictSettings, predict
from dmf_fast.cli.recommend import RecommendSettings, recommend
from dmf_fast.cli.reproduce import ReproduceSettings, reproduce
from dmf_fast.cli.settings import CompleteSettings

Settings = TypeVar("Settings")

app = typer.Typer(
    name="dmf-fast",
    help="Deep matrix factorization for matrix completion.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run the command line; bad input ends with one sentence on standard error and the exit code 2."""
    app(prog_name="dmf-fast")


@dataclass(frozen=True)
class InfoSettings:
    """``info`` has no options."""


def info(settings: InfoSettings) -> None:
    """Print versions, the active instruction set, threads, and whether CUDA is built and loaded."""
    from dmf_fast.info import report

    typer.echo(report())


def _register(settings_class: Callable[..., Settings], job: Callable[[Settings], None]) -> None:
    """Make a command whose options are the annotated fields of ``settings_class``."""

    def command(**options: Any) -> None:
        try:
            job(settings_class(**options))
        except BrokenPipeError:
            raise
        except (ValueError, OSError, MemoryError) as error:
            sentence = " ".join(str(error).split()) or f"{type(error).__name__} without a message."
            typer.echo(f"Error: {sentence}", err=True)
            raise typer.Exit(2) from error

    hints = get_type_hints(settings_class, include_extras=True)
    parameters = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(settings_class).parameters.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = hints
    app.command(name=job.__name__, help=inspect.getdoc(job))(command)


_register(CompleteSettings, complete)
_register(PredictSettings, predict)
_register(RecommendSettings, recommend)
_register(ReproduceSettings, reproduce)
_register(InfoSettings, info)
