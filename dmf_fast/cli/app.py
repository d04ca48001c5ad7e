"""The commands of ``dmf-fast``: each takes its options from a settings class and reports bad input."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from safetensors import SafetensorError
from typer import Option

from dmf_fast.cli.complete import complete
from dmf_fast.cli.config import use_assignments, use_file
from dmf_fast.cli.evaluate import EvaluateSettings, evaluate
from dmf_fast.cli.export import ExportSettings, export
from dmf_fast.cli.info import InfoSettings, info
from dmf_fast.cli.predict import PredictSettings, predict
from dmf_fast.cli.recommend import RecommendSettings, recommend
from dmf_fast.cli.reproduce import ReproduceSettings, reproduce
from dmf_fast.cli.settings import CompleteSettings
from dmf_fast.cli.tune import TuneSettings, tune

app = typer.Typer(
    name="dmf-fast",
    help="Deep matrix factorization for matrix completion.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_CONFIG = {
    "config": Annotated[
        Path | None,
        Option(
            "--config",
            metavar="FILE",
            is_eager=True,
            callback=use_file,
            help="YAML or TOML file of options, such as 'steps: 100'; options given here count more.",
            show_default=False,
        ),
    ],
    "assignments": Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="KEY=VALUE",
            is_eager=True,
            callback=use_assignments,
            help="An option as in the file, which it overrules; several times.",
            show_default=False,
        ),
    ],
}


def main() -> None:
    """Run the command line; bad input ends with one sentence on standard error and the exit code 2."""
    app(prog_name="dmf-fast")


def _register(settings_class: Callable[..., Any], job: Callable[[Any], None]) -> None:
    """Make a command whose options are the annotated fields of ``settings_class``."""

    def command(config: Path | None, assignments: list[str] | None, **options: Any) -> None:
        try:
            job(settings_class(**options))
        except BrokenPipeError:
            raise
        except KeyboardInterrupt:
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(130) from None
        except (ValueError, OSError, MemoryError, SafetensorError) as error:
            typer.echo(f"Error: {_sentence(error)}", err=True)
            raise typer.Exit(2) from error

    hints = get_type_hints(settings_class, include_extras=True)
    parameters = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(settings_class).parameters.items()
    ]
    for name, hint in _CONFIG.items():
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(name, kind, default=None, annotation=hint))
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    command.__annotations__ = hints | _CONFIG
    app.command(name=job.__name__, help=inspect.getdoc(job))(command)


def _sentence(error: BaseException) -> str:
    """Return an error as a sentence; only a command to repeat has a line of its own."""
    lines = [" ".join(line.split()) for line in str(error).split("\n  dmf-fast")]
    return "\n  dmf-fast ".join(lines) or f"{type(error).__name__} without a message."


_register(CompleteSettings, complete)
_register(TuneSettings, tune)
_register(EvaluateSettings, evaluate)
_register(PredictSettings, predict)
_register(RecommendSettings, recommend)
_register(ExportSettings, export)
_register(ReproduceSettings, reproduce)
_register(InfoSettings, info)
