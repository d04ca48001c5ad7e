"""Options from a YAML or TOML file and from ``--set``, as defaults of the options on the command line."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import typer

from dmf_fast.cli.option import option_names

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# What belongs to one call and not to a job.
_OF_ONE_CALL = ("overwrite", "resume", "as_json", "quiet", "show_config")
_NO_KEYS = ("config", "assignments", "help")


def use_file(context: typer.Context, path: Path | None) -> None:
    """Make the options of a file defaults of the command; a `typer.BadParameter` says why they cannot be."""
    if path is not None:
        defaults = _defaults(context, _read(path), str(path))
        context.default_map = {**defaults, **(context.default_map or {})}


def use_assignments(context: typer.Context, assignments: Iterable[str] | None) -> None:
    """Make options such as ``weight_decay=0.1`` defaults of the command, above those of a file."""
    given: dict[str, Any] = {}
    for assignment in assignments or ():
        key, sign, value = assignment.partition("=")
        if not sign:
            raise typer.BadParameter(
                f"--set needs KEY=VALUE, such as --set steps=100, but {assignment!r} came."
            )
        given[key.strip()] = value.strip()
    context.default_map = {**(context.default_map or {}), **_defaults(context, given, "--set")}


def config_text(command: str, settings: Any) -> str:
    """Return the settings as YAML that ``--config`` reads again.

    >>> from dmf_fast.cli.settings import CompleteSettings
    >>> "weight_decay: 0.5" in config_text("complete", CompleteSettings(weight_decay=0.5))
    True
    """
    import yaml

    options = {
        key: str(value) if isinstance(value, Path) else value
        for name, key in option_names(type(settings)).items()
        for value in [getattr(settings, name)]
        if name not in _OF_ONE_CALL
    }
    heading = f"# dmf-fast {version('dmf-fast')}: dmf-fast {command} --config THIS_FILE; null: the default"
    return f"{heading}\n{yaml.safe_dump(options, sort_keys=False, allow_unicode=True)}"


def _read(path: Path) -> Mapping[str, Any]:
    if path.suffix not in (".yaml", ".yml", ".toml"):
        raise typer.BadParameter(f"{path} must end in .yaml, .yml or .toml; name such a file.")
    try:
        text = path.read_text(encoding="utf-8")
        options = tomllib.loads(text) if path.suffix == ".toml" else _parsed_yaml(text)
    except (OSError, ValueError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise typer.BadParameter(f"{path} cannot be read: {reason}; check the file.") from error
    if not isinstance(options, dict):
        raise typer.BadParameter(f"{path} must hold lines such as 'steps: 100', but holds {options!r}.")
    return options


def _parsed_yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _defaults(context: typer.Context, options: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the options by the names of the command's parameters, as text where click is to convert it."""
    names, defaults = _parameters(context), {}
    flags = {parameter.name for parameter in context.command.params if getattr(parameter, "is_flag", False)}
    for key, value in options.items():
        name = names.get(str(key).removeprefix("--").replace("-", "_"))
        if name is None:
            raise typer.BadParameter(_unknown_key(str(key), source, context.info_name, names))
        if isinstance(value, Mapping):
            raise typer.BadParameter(f"{source}: {key} must be one value, but {dict(value)!r} came.")
        if value is not None:
            defaults[name] = value if isinstance(value, bool) and name in flags else _text(value)
    return defaults


def _parameters(context: typer.Context) -> dict[str, str]:
    """Return the name of the parameter for every key that stands for it."""
    keys = {}
    for parameter in context.command.params:
        if parameter.name is not None and parameter.name not in _NO_KEYS:
            for spelling in (parameter.name, *parameter.opts):
                keys[spelling.lstrip("-").replace("-", "_").lower()] = parameter.name
    return keys


def _unknown_key(key: str, source: str, command: str | None, names: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(key.replace("-", "_"), names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"dmf-fast {command} --help lists them."
    return f"{source}: {command} has no option {key!r}; {hint}"


def _text(value: Any) -> str:
    """Return a value as it would stand on the command line: a list with commas, a number as its digits."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
