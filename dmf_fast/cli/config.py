"""Options from a YAML or TOML file and from ``--set``, as defaults of those on the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

import click

from dmf_fast.checks import did_you_mean, printable, shortened
from dmf_fast.files.reading import short_reason
from dmf_fast.options import Options

# Options of one call, not of the job.
_OF_ONE_CALL = ("overwrite", "resume", "json", "quiet", "show_config")
_NO_KEYS = ("config", "assignments", "help")
_LISTS = ("depth", "columns")
_MOST_BYTES = 100_000
_LONGEST_TEXT = 4096


class BadValue(click.ClickException):
    """An error that is shown without the usage of the command."""

    exit_code = 2


def use_file(context: click.Context, path: Path | None) -> Path | None:
    """Make the options in a file the defaults of the command, and return the path.

    Raises a `BadValue` if the file cannot be used.
    """
    if path is not None:
        defaults = _defaults(context, _read(path), printable(path))
        context.default_map = {**defaults, **(context.default_map or {})}
    return path


def use_assignments(context: click.Context, assignments: Iterable[str]) -> None:
    """Make options such as ``weight_decay=0.1`` defaults of the command, which override those of a file."""
    given: dict[str, Any] = {}
    for assignment in assignments:
        key, sign, value = assignment.partition("=")
        if not sign:
            raise BadValue(f"--set must be KEY=VALUE, such as --set steps=100, got {shortened(assignment)!r}")
        if key.strip() in given:
            raise BadValue(f"--set: {shortened(key.strip())} is given twice; leave one out")
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
    """Return the contents of a file, which is not trusted: it must be small, flat and free of repeats."""
    if path.suffix not in (".yaml", ".yml", ".toml"):
        raise BadValue(f"{printable(path)} must end in .yaml, .yml or .toml; name such a file")
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES:,} bytes")
        text = content.decode("utf-8-sig")
        options = _parsed_toml(text) if path.suffix == ".toml" else parsed_yaml(text)
    except (OSError, ValueError, RecursionError) as error:
        raise BadValue(f"{printable(path)} cannot be read: {short_reason(error)}; check the file") from error
    if not isinstance(options, dict):
        raise BadValue(
            f"{printable(path)} must hold lines such as 'steps: 100', got a {type(options).__name__}"
        )
    return options


def _parsed_toml(text: str) -> Any:
    import tomllib

    return tomllib.loads(text)


def parsed_yaml(text: str) -> Any:
    """Return the contents of YAML text without anchors, with which a small file can expand to a huge one."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # which has no types
        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()
            if getattr(event, "anchor", None) is not None:
                raise ValueError(f"it has the anchor or alias {event.anchor!r}; write the value there")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value]
            for place, key in enumerate(keys):
                if key in keys[:place]:
                    raise ValueError(f"{key!r} occurs twice; remove one")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader) or {}
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _defaults(context: click.Context, options: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the options by key, as text to be converted like that on the command line."""
    keys = [parameter.name or "" for parameter in context.command.params if parameter.name not in _NO_KEYS]
    defaults: dict[str, Any] = {}
    seen: set[str] = set()
    for spelling, value in options.items():
        key = str(spelling).removeprefix("--").replace("-", "_")
        if key not in keys:
            raise BadValue(_unknown_key(str(spelling), source, context.info_name, keys))
        if key in seen:
            raise BadValue(f"{source}: {key} occurs twice; remove one")
        seen.add(key)
        if value is not None:
            defaults[key] = _text(key, value, source)
    return defaults


def _text(key: str, value: Any, source: str) -> str:
    parts = value if isinstance(value, list) and key in _LISTS else [value]
    if any(isinstance(part, (Mapping, list, set, bytes, NoneType)) for part in parts):
        raise BadValue(f"{source}: {key} must be one value, got a {type(value).__name__}")
    try:
        text = ",".join(map(str, parts))
        if len(text) > _LONGEST_TEXT:
            raise ValueError(f"it has {len(text):,} characters")
        return text
    except ValueError as error:  # a number with thousands of digits
        raise BadValue(f"{source}: {key} must be shorter ({short_reason(error)})") from error


def _unknown_key(key: str, source: str, command: str | None, keys: Iterable[str]) -> str:
    hint = did_you_mean(key.replace("-", "_"), keys) or f"dmf-fast {command} --help lists them."
    return f"{source}: {command} has no option {shortened(key)!r}; {hint}"
