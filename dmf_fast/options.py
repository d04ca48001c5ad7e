"""Options, each declared once, with type, default, bounds and meaning, in the dataclass that owns it.

The checks, the documentation, the command-line flags and the keys of files are derived from the declaration.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dmf_fast.checks import one_of, range_text, real_number, true_or_false, whole_number

Group = TypeVar("Group", bound="Options")


@dataclass(frozen=True)
class Option:
    """What a field of `Options` means and which values it accepts.

    The attributes up to ``argument`` are given in the declaration; the others are read from the field itself.

    Attributes:
        help: one or two sentences for the command line and the documentation.
        more: what only the documentation adds.
        least, above, most, below: bounds of a number; None for no bound.
        none: the meaning of None, for options that may be None.
        key: name of the option where all options of a job are listed together: as a flag, in a file, or as a
            parameter of an estimator. None for the name of the field, "" for an option that is not listed.
        argument: name in the usage line of a command, for an option that is a positional argument.
        name: name of the field.
        kind: ``int``, ``float``, ``bool``, ``str`` or ``Path``; other types are not checked.
        choices: accepted strings, for a number in addition to the values within its bounds; empty for any.
        optional: whether the option may be None.
        default: the default value; ``...`` if the option is required.

    """

    help: str
    more: str = ""
    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    none: str = "none"
    key: str | None = None
    argument: str = ""
    name: str = ""
    kind: Any = object
    choices: tuple[str, ...] = ()
    optional: bool = False
    default: Any = ...

    def checked(self, name: str, value: Any) -> Any:
        """Return ``value`` converted to the plain type of the option.

        Raises a `TypeError` or a `ValueError` that names it ``name`` if the option does not accept it.
        """
        if value is None and self.optional:
            return None
        if self.choices and (self.kind is str or value in self.choices):
            return one_of(name, value, self.choices)
        if self.choices and isinstance(value, str):
            words = ", ".join(self.choices)
            raise ValueError(f"`{name}` must be a whole number or one of {words}, got {value!r}")
        if self.kind is bool:
            return true_or_false(name, value)
        if self.kind is int:
            bounds = (None if bound is None else int(bound) for bound in (self.least, self.most))
            return whole_number(name, value, **dict(zip(("least", "most"), bounds, strict=True)))
        if self.kind is float:
            return real_number(name, value, **self.bounds)
        if self.kind is Path:
            if str(value) == "":
                raise ValueError(f"`{name}` must be a path, got ''")
            if "\0" in str(value):
                raise ValueError(f"`{name}` must be a path without NUL, got {value!r}")
            return Path(value)
        if self.kind is str and not isinstance(value, str):
            raise TypeError(f"`{name}` must be a string, got {value!r}")
        return value

    @property
    def bounds(self) -> dict[str, float | None]:
        """The bounds of a number by name."""
        return {name: getattr(self, name) for name in ("least", "above", "most", "below")}

    @property
    def documentation(self) -> str:
        """The description for the documentation: help, accepted values and default."""
        facts = []
        choices, allowed = ", ".join(map(_shown, self.choices)), range_text(**self.bounds)
        if choices:
            facts.append(f"one of {choices}" if self.kind is str else f"{choices}, or a number")
        if allowed:
            facts.append(allowed)
        if self.optional:
            facts.append("or None" if self.none == "none" else f"None: {self.none}")
        if self.default is not ...:
            facts.append(f"default {_shown(self.default)}")
        listed = "; ".join(facts)
        sentences = (self.help, self.more, f"{listed[:1].upper()}{listed[1:]}." if facts else "")
        return " ".join(filter(None, sentences))


def _shown(value: Any) -> str:
    return f'``"{value}"``' if isinstance(value, str) else f"{value}"


class Options:
    """Base class of frozen dataclasses whose fields are options or groups of options.

    A field is declared as ``name: Annotated[kind, Option(help)] = default``. Values are checked and NumPy
    numbers are converted to plain ones on construction, and the docstring gets an "Attributes" section.

    Example:
        >>> @dataclass(frozen=True)
        ... class Walk(Options):
        ...     "How far to walk."
        ...     steps: Annotated[int, Option("Maximum number of steps.", least=0)] = 10
        >>> Walk(steps=-1)
        Traceback (most recent call last):
        ValueError: `steps` must be at least 0, got -1
        >>> Walk().changed({"steps": 3})
        Walk(steps=3)

    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    _fields: ClassVar[dict[str, Option | type[Options]]] = {}

    def __init_subclass__(cls) -> None:
        cls._fields = _declared(cls)
        cls.__doc__ = _documented(cls)

    def __post_init__(self) -> None:
        for name, option in self._fields.items():
            value = getattr(self, name)
            if isinstance(option, Option):
                object.__setattr__(self, name, option.checked(name, value))
            elif not isinstance(value, option):
                raise TypeError(f"`{name}` must be {option.__name__}, got {value!r}")

    @classmethod
    def of(cls: type[Group], values: Mapping[str, Any]) -> Group:
        """Return the defaults updated with ``values``, given by the keys of `options_of`."""
        return cls(**_changes(cls, values))

    def changed(self: Group, values: Mapping[str, Any]) -> Group:
        """Return a copy updated with ``values``, given by the keys of `options_of`."""
        return replace(self, **_changes(self, values))

    def values(self) -> dict[str, Any]:
        """Return all values by the keys of `options_of`."""
        found = {}
        for key, (path, _) in _places(type(self)).items():
            value: Any = self
            for name in path:
                value = getattr(value, name)
            found[key] = value
        return found


def options_of(options: type[Options]) -> dict[str, Option]:
    """Return every option by its key, including those of groups.

    If two options share a key, the outer one takes precedence.
    """
    return {key: option for key, (_, option) in _places(options).items()}


def _declared(options: type[Options]) -> dict[str, Option | type[Options]]:
    """Return the fields of ``options`` that are options or groups."""
    found: dict[str, Option | type[Options]] = {}
    for name, hint in get_type_hints(options, include_extras=True).items():
        default = getattr(options, name, ...)
        if get_origin(hint) is Annotated:
            kind, *notes = get_args(hint)
            for option in notes:
                if isinstance(option, Option):
                    found[name] = replace(option, name=name, default=default, **_kind(kind))
        elif isinstance(hint, type) and issubclass(hint, Options):
            found[name] = hint
    return found


def _kind(hint: Any) -> dict[str, Any]:
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    choices = tuple(choice for part in parts if get_origin(part) is Literal for choice in get_args(part))
    kinds = [part for part in parts if part is not NoneType and get_origin(part) is not Literal]
    return {"kind": kinds[0] if kinds else str, "choices": choices, "optional": NoneType in parts}


def _places(options: type[Options]) -> dict[str, tuple[tuple[str, ...], Option]]:
    """Return the path to every option, and the option, by its key."""
    found: dict[str, tuple[tuple[str, ...], Option]] = {}
    groups: list[tuple[tuple[str, ...], type[Options]]] = [((), options)]
    while groups:  # breadth first, so that outer options precede inner ones of the same key
        inner = []
        for path, group in groups:
            for name, option in group._fields.items():
                if not isinstance(option, Option):
                    inner.append(((*path, name), option))
                elif option.key != "":
                    found.setdefault(option.key or name, ((*path, name), option))
        groups = inner
    return found


def _changes(options: Options | type[Options], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``options`` that these values change."""
    places = _places(options if isinstance(options, type) else type(options))
    for key in values.keys() - places.keys():
        raise TypeError(f"options must be among {', '.join(places)}, got `{key}`")
    return _changed_fields(options, {places[key][0]: value for key, value in values.items()})


def _changed_fields(options: Any, values: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    groups: dict[str, dict[tuple[str, ...], Any]] = {}
    for (name, *inner), value in values.items():
        if inner:
            groups.setdefault(name, {})[tuple(inner)] = value
        else:
            changes[name] = value
    for name, inner_values in groups.items():
        group = getattr(options, name)
        changes[name] = replace(group, **_changed_fields(group, inner_values))
    return changes


def _documented(options: type[Options]) -> str | None:
    """Return the docstring with an "Attributes" section before its "Raises" and "Example" sections."""
    if options.__doc__ is None or not options._fields:
        return options.__doc__
    lines = ["Attributes:"]
    for name, option in options._fields.items():
        text = option.documentation if isinstance(option, Option) else f"`{option.__name__}`."
        lines += textwrap.wrap(
            f"{name}: {text}", 110, initial_indent=" " * 8, subsequent_indent=" " * 12, break_on_hyphens=False
        )
    section = "\n".join(["    " + lines[0], *lines[1:]])
    before, heading, after = _split_before_heading(options.__doc__)
    return f"{before.rstrip()}\n\n{section}\n\n{heading}{after}"


def _split_before_heading(text: str) -> tuple[str, str, str]:
    for heading in ("    Raises:", "    Example:"):
        if heading in text:
            return text.partition(heading)
    return text, "    ", ""
