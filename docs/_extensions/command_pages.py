"""The page of the command line, made from the program: every command, its options, defaults and help."""

from __future__ import annotations

import re

import click
from sphinx.application import Sphinx

from dmf_fast.cli.app import app as program

_FLAG = re.compile(r"(?<!\w)--[a-z][a-z-]*")


def command_page() -> str:
    """Return a section of reStructuredText directives in MyST for every command."""
    context = click.Context(program, info_name="dmf-fast")
    return "\n".join(
        _section(name, program.get_command(context, name), context) for name in program.list_commands(context)
    )


def _section(name: str, command: click.Command | None, parent: click.Context) -> str:
    assert command is not None
    context = click.Context(command, info_name=name, parent=parent, max_content_width=10_000)
    usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
    text = re.sub(_FLAG, r"`\g<0>`", command.help or "")
    lines = [f"## dmf-fast {name}", "", text, "", "```text", usage, "```", ""]
    lines += ["```{eval-rst}", f".. program:: dmf-fast {name}", ""]
    for one in command.params:
        record = one.get_help_record(context)
        if record is not None and isinstance(one, click.Option):
            flags, text = record
            lines += [f".. option:: {flags.replace(' / ', ', ')}", "", f"   {_literal(text)}", ""]
    return "\n".join([*lines, "```", ""])


def _literal(text: str) -> str:
    """Return a help text in which nothing is markup but the flags, which are code."""
    return re.sub(_FLAG, r"``\g<0>``", re.sub(r"[\\*`|_]", r"\\\g<0>", text))


def _fill(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname == "command_line":
        source[0] += command_page()


def setup(app: Sphinx) -> dict[str, bool]:
    """Fill the page when it is read."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
