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


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of Python that the reference explains, built without a warning."""
    from sphinx.util.inventory import InventoryFile

    built: Path = tmp_path_factory.mktemp("reference")
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


def test_every_public_object_is_there_under_one_of_its_names(names: set[str]) -> None:
    aliases: dict[int, list[str]] = {}
    for one in objects():
        aliases.setdefault(id(one.value), []).append(one.name)
    assert [own for own in aliases.values() if not names.intersection(own)] == []


def test_every_option_is_there(names: set[str]) -> None:
    groups = [one for one in objects() if inspect.isclass(one.value) and issubclass(one.value, Options)]
    options = {f"{one.name}.{field}" for one in groups for field in one.value._fields}
    shown = {name.rpartition(".")[0] for name in names}
    assert groups
    assert {name for name in options if name.rpartition(".")[0] in shown} <= names
