"""Fields of settings as options of the command line: their names, and a command that repeats them."""

from __future__ import annotations

import shlex
from dataclasses import fields
from typing import Any, get_type_hints

from typer import Option
from typer.models import ArgumentInfo, OptionInfo


def option(text: str, *names: str, **limits: Any) -> Any:
    """Return a typer option whose help says its default itself: None means that the job decides."""
    return Option(*names, help=text, show_default=False, **limits)


def option_names(settings_class: type) -> dict[str, str]:
    """Return what users call each field: ``weight_decay``, or ``json`` for the field ``as_json``.

    >>> from dmf_fast.cli.settings import CompleteSettings
    >>> option_names(CompleteSettings)["as_json"]
    'json'
    """
    return {
        name: name if flags is None else flags[0].lstrip("-").replace("-", "_")
        for name, flags in _flags(settings_class).items()
    }


def command_line(command: str, settings: Any) -> str:
    """Return what a shell runs for these settings, of which those at their defaults are left out.

    >>> from dmf_fast.cli.settings import CompleteSettings
    >>> command_line("complete", CompleteSettings(ratings="u.data", weight_decay=0.5, refit=False))
    'dmf-fast complete u.data --weight-decay 0.5 --no-refit'
    """
    defaults = {field.name: field.default for field in fields(settings)}
    arguments, options = [], []
    for name, flags in _flags(type(settings)).items():
        value = getattr(settings, name)
        if value != defaults[name] and value is not None:
            if flags is None:
                arguments.append(str(value))
            else:
                options += _words(flags, value)
    return shlex.join(["dmf-fast", command, *arguments, *options])


def _words(flags: tuple[str, ...], value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flags[0] if value else flags[1]]
    return [flags[0], str(value)]


def _flags(settings_class: type) -> dict[str, tuple[str, ...] | None]:
    """Return the flags of every field: ``("--refit", "--no-refit")``; None for an argument."""
    flags: dict[str, tuple[str, ...] | None] = {}
    for name, hint in get_type_hints(settings_class, include_extras=True).items():
        (info,) = (m for m in hint.__metadata__ if isinstance(m, OptionInfo | ArgumentInfo))
        # Typer takes the first name for a default until it makes a command of the settings.
        named = [flag for flag in (info.default, *(info.param_decls or ())) if isinstance(flag, str)]
        declared = named or [f"--{name.replace('_', '-')}"]
        flags[name] = None if isinstance(info, ArgumentInfo) else tuple(declared[0].split("/"))
    return flags
