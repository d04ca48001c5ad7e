"""Commands built from the options that they declare: flags, help, and the text that repeats a command."""

from __future__ import annotations

import inspect
import itertools
import re
import shlex
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from dmf_fast.cli.config import BadValue, use_assignments, use_file
from dmf_fast.options import Option, Options, options_of

_LONGEST_NUMBER, _LONGEST_TEXT = 100, 4096
_NEGATIVE = re.compile(r"-\d+(\.\d+)?")


def command(
    name: str,
    options: type[Options],
    run: Callable[[Mapping[str, Any]], None],
    defaults: Mapping[str, Mapping[str, Any]],
) -> click.Command:
    """Return a command that calls ``run`` with the given options, by their keys.

    ``defaults`` maps a case to its defaults, which the help shows; the ordinary case has the name "".
    """

    def callback(config: Path | None, assignments: tuple[str, ...], **values: Any) -> None:
        run({key: value for key, value in values.items() if value is not None})

    parameters = [_parameter(key, option, defaults) for key, option in options_of(options).items()]
    text = inspect.cleandoc(options.__doc__ or "").partition("\n\nAttributes:")[0]
    arguments = [f"{one.argument}: {one.help}" for one in options_of(options).values() if one.argument]
    return _Command(
        name,
        params=[*parameters, *_config_parameters()],
        callback=callback,
        help="\n\n".join([text, *arguments]),
        short_help=text.partition("\n")[0],
        context_settings={"max_content_width": 110},
    )


class _Command(click.Command):
    """Reads a negative number as an argument, such as an id, unless an option expects a value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        awaiting = {
            flag
            for one in self.params
            if isinstance(one, click.Option) and not one.is_flag
            for flag in one.opts
        }
        options: list[str] = []
        numbers: list[str] = []
        rest = iter(args)
        for arg in rest:
            if arg == "--":
                numbers += rest
            elif _NEGATIVE.fullmatch(arg):
                numbers.append(arg)
            else:
                options.append(arg)
                options += itertools.islice(rest, 1 if arg in awaiting else 0)
        return super().parse_args(ctx, [*options, *(["--", *numbers] if numbers else [])])


def command_line(name: str, options: type[Options], values: Mapping[str, Any]) -> str:
    """Return the shell command that passes these values of options.

    >>> from dmf_fast.cli.options import CompleteOptions
    >>> command_line("complete", CompleteOptions, {"ratings": "u.data", "weight_decay": 0.5, "refit": False})
    'dmf-fast complete u.data --weight-decay 0.5 --no-refit'
    """
    arguments: list[str] = []
    words: list[str] = []
    for key, option in options_of(options).items():
        if key not in values:
            continue
        value = values[key]
        if option.argument:
            arguments.append(str(value))
        elif option.kind is bool:
            words.append(_flag(key) if value else _flag(f"no_{key}"))
        else:
            words += [_flag(key), str(value)]
    return shlex.join(["dmf-fast", name, *arguments, *words])


def _parameter(key: str, option: Option, defaults: Mapping[str, Mapping[str, Any]]) -> click.Parameter:
    if option.argument:
        required = option.default is ...
        metavar = option.argument if required else f"[{option.argument}]"
        return click.Argument([key], type=_Value(key, option), required=required, metavar=metavar)
    flag = f"{_flag(key)}/{_flag(f'no_{key}')}" if option.kind is bool else _flag(key)
    kind = click.BOOL if option.kind is bool else _Value(key, option)
    return click.Option([flag, key], type=kind, default=None, help=_help(key, option, defaults))


def _help(key: str, option: Option, defaults: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the help of an option: its meaning, choices and defaults."""
    listed = ", ".join(option.choices)
    choices = f" One of {listed}." if option.kind is str else f" A number or {listed}."
    choices = choices if listed else ""
    texts = {case: _shown(option, values[key]) for case, values in defaults.items()}
    if len(set(texts.values())) == 1:
        texts = {"": texts[""]}
    shown = "; ".join(f"{case}: {text}" if case else text for case, text in texts.items())
    return f"{option.help}{choices} [default: {shown}]".replace("``", "")


def _shown(option: Option, value: Any) -> str:
    if value is None:
        return option.none
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _config_parameters() -> list[click.Parameter]:
    return [
        click.Option(
            ["--config", "config"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            is_eager=True,
            callback=lambda context, _, path: use_file(context, path),
            help="YAML or TOML file of options, such as 'steps: 100', each at most once; the command line "
            "overrides it. At most 100 kB, without anchors.",
        ),
        click.Option(
            ["--set", "assignments"],
            multiple=True,
            metavar="KEY=VALUE",
            is_eager=True,
            callback=lambda context, _, assignments: use_assignments(context, assignments),
            help="An option as in the file, which it overrides. Can be repeated, once per option.",
        ),
    ]


class _Value(click.ParamType[Any]):
    """Converts and checks text as an option declares."""

    def __init__(self, key: str, option: Option) -> None:
        self.name = {int: "integer", float: "number", Path: "path"}.get(option.kind, "text")
        self._called = option.argument or _flag(key)
        self._option = option

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        kind = self._option.kind
        if isinstance(value, str) and len(value) > (
            _LONGEST_NUMBER if kind in (int, float) else _LONGEST_TEXT
        ):
            raise BadValue(f"`{self._called}` must be shorter, got {len(value):,} characters")
        try:
            with suppress(ValueError):  # the check reports what it must be
                value = kind(value) if kind in (int, float) else value
            return self._option.checked(self._called, value)
        except (TypeError, ValueError) as error:
            raise BadValue(str(error)) from error


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"
