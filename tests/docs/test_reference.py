"""The reference has every public name, and every option."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from dmf_fast.options import Options
from tests.docs.public import objects
from tests.killing import ROOT

pytest.importorskip("sphinx", reason="Sphinx is not installed: pip install dmf-fast[docs]")


def names_in(built: Path) -> set[str]:
    """Build the reference, without a warning, and return the names of Python that it explains."""
    from sphinx.util.inventory import InventoryFile

    options = ["--fail-on-warning", "--keep-going", "--quiet", "-c", ROOT / "docs", "-d", built / "trees"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, ROOT / "docs" / "reference", built],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = InventoryFile.loads((built / "objects.inv").read_bytes(), uri="")
    return {name for kind, entries in found.data.items() if kind.startswith("py:") for name in entries}


def test_every_public_object_is_there_under_one_of_its_names_and_every_option(tmp_path: Path) -> None:
    names = names_in(tmp_path)

    aliases: dict[int, list[str]] = {}
    for one in objects():
        aliases.setdefault(id(one.value), []).append(one.name)
    assert [own for own in aliases.values() if not names.intersection(own)] == []
    groups = {one.name: one.value for one in objects() if one.name in names and inspect.isclass(one.value)}
    options = {name: value._fields for name, value in groups.items() if issubclass(value, Options)}
    assert options
    assert {f"{name}.{field}" for name, fields in options.items() for field in fields} <= names
