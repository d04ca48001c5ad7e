"""Options in the reference: each field of an options dataclass with its type, default, bounds and meaning."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any, get_args, get_type_hints

from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation

from dmf_fast.options import Option, Options


def _is_options(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, Options) and value is not Options


def _attribute(options: type[Options], name: str, option: Option | type[Options]) -> list[str]:
    """Return the directive that documents a field."""
    hint = get_type_hints(options, include_extras=True)[name]
    if not isinstance(option, Option):
        return [f".. py:attribute:: {name}", f"   :type: {option.__name__}", ""]
    kind = stringify_annotation(get_args(hint)[0], "smart").replace("~", "")
    default = [] if option.default is ... else [f"   :value: {option.default!r}"]
    return [
        f".. py:attribute:: {name}",
        f"   :type: {kind}",
        *default,
        "",
        f"   {replace(option, default=...).documentation}",
        "",
    ]


def _document(app: Sphinx, what: str, name: str, value: Any, settings: Any, lines: list[str]) -> None:
    """Replace the section "Attributes" of an options dataclass, which comes from the same declarations."""
    if not _is_options(value):
        return
    text = "\n".join(lines)
    before, _, after = text.partition("Attributes:\n")
    rest = after.split("\n")
    while rest and (rest[0].startswith("    ") or not rest[0].strip()):
        rest.pop(0)
    fields = [line for field in value._fields.items() for line in _attribute(value, *field)]
    lines[:] = [*before.rstrip().split("\n"), "", *fields, *rest]


def _sign(app: Sphinx, what: str, name: str, value: Any, *_: Any) -> tuple[str, None] | None:
    """Leave out a signature that lists all fields once more."""
    return ("(...)", None) if _is_options(value) else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Have autodoc call the hooks, before napoleon reads the docstring."""
    app.connect("autodoc-process-docstring", _document, priority=400)
    app.connect("autodoc-process-signature", _sign)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
