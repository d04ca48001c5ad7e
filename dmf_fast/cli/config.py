"""Options from a YAML or TOML file and from ``--set``, as defaults of the options on the command line."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from dmf_fast.options import Options

# What belongs to one call and not to a job.
_OF_ONE_CALL = ("overwrite", "resume", "json", "quiet", "show_config")
_NO_KEYS = ("config", "assignments", "help")


def use_file(context: click.Context, path: Path | None) -> None:
    """Make the options of a file defaults of the command; a `click.BadParameter` says why they cannot be."""
    if path is not None:
        defaults = _defaults(context, _read(path), str(path))
        context.default_map = {**defaults, **(context.default_map or {})}


def use_assignments(context: click.Context, assignments: Iterable[str]) -> None:
    """Make options such as ``weight_decay=0.1`` defaults of the command, above those of a file."""
    given: dict[str, Any] = {}
    for assignment in assignments:
        key, sign, value = assignment.partition("=")
        if not sign:
            raise click.BadParameter(f"--set must be KEY=VALUE, such as --set steps=100, got {assignment!r}")
        given[key.strip()] = value.strip()
    context.default_map = {**(context.default_map or {}), **_defaults(context, given, "--set")}


def config_text(command: str, options: Options) -> str:
    """Return the options as YAML that ``--config`` reads again.

    >>> from dmf_fast.cli.options import CompleteOptions
    >>> "weight_decay: 0.5" in config_text("complete", CompleteOptions.of({"weight_decay": 0.5}))
    True
    """
    import yaml

    from dmf_fast import __version__

    values = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in options.values().items()
        if key not in _OF_ONE_CALL
    }
    heading = f"# dmf-fast {__version__}: dmf-fast {command} --config THIS_FILE; null: the default"
    return f"{heading}\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}"


def _read(path: Path) -> Mapping[str, Any]:
    if path.suffix not in (".yaml", ".yml", ".toml"):
        raise click.BadParameter(f"{path} must end in .yaml, .yml or .toml; name such a file")
    try:
        text = path.read_text(encoding="utf-8")
        options = _parsed_toml(text) if path.suffix == ".toml" else _parsed_yaml(text)
    except (OSError, ValueError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise click.BadParameter(f"{path} cannot be read: {reason}; check the file") from error
    if not isinstance(options, dict):
        raise click.BadParameter(f"{path} must hold lines such as 'steps: 100', got {options!r}")
    return options


def _parsed_toml(text: str) -> Any:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    return tomllib.loads(text)


def _parsed_yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _defaults(context: click.Context, options: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the options by their keys, as text that is converted as on the command line."""
    keys = [parameter.name or "" for parameter in context.command.params if parameter.name not in _NO_KEYS]
    defaults = {}
    for spelling, value in options.items():
        key = str(spelling).removeprefix("--").replace("-", "_")
        if key not in keys:
            raise click.BadParameter(_unknown_key(str(spelling), source, context.info_name, keys))
        if isinstance(value, Mapping):
            raise click.BadParameter(f"{source}: {key} must be one value, got {dict(value)!r}")
        if value is not None:
            defaults[key] = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return defaults


def _unknown_key(key: str, source: str, command: str | None, keys: Iterable[str]) -> str:
    near = difflib.get_close_matches(key.replace("-", "_"), keys, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"dmf-fast {command} --help lists them."
    return f"{source}: {command} has no option {key!r}; {hint}"
