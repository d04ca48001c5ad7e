"""Records are frozen: they are defaults of arguments, keys of caches and shared between threads."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "dmf_fast"
# What is changed while something runs, and seen by nobody else.
STATES = {"OptimizerState", "DescentProgram", "Run", "Job", "_Reader", "State"}


def unfrozen(module: Path) -> set[str]:
    """Return the dataclasses of a module that can be changed."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            ways = {ast.unparse(way) for way in node.decorator_list}
            if any(way.startswith("dataclass") and "frozen=True" not in way for way in ways):
                found.add(node.name)
    return found


@pytest.mark.parametrize(
    "package", sorted({path.parent for path in PACKAGE.rglob("*.py")}), ids=lambda path: path.name
)
def test_records_cannot_be_changed(package: Path) -> None:
    assert set().union(*(unfrozen(module) for module in package.glob("*.py"))) <= STATES
