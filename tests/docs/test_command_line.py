"""The page of the command line has every command and every flag."""

from __future__ import annotations

import sys

import click
import pytest

from dmf_fast.cli.app import app
from tests.killing import ROOT

pytest.importorskip("sphinx", reason="Sphinx is not installed: pip install dmf-fast[docs]")


def commands() -> list[tuple[str, click.Command]]:
    """Return the commands of the program by their names."""
    with click.Context(app) as context:
        found = [(name, app.get_command(context, name)) for name in app.list_commands(context)]
    return [(name, command) for name, command in found if command is not None]


def test_every_command_and_flag_is_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs" / "_extensions"), *sys.path])
    from command_pages import command_page

    sections = command_page().split("\n## ")
    for section, (name, command) in zip(sections, commands(), strict=True):
        assert section.removeprefix("## ").startswith(f"dmf-fast {name}\n")
        flags = {flag for one in command.params if isinstance(one, click.Option) for flag in one.opts}
        assert flags
        assert all(f".. option:: {flag}" in section for flag in flags)
