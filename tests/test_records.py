"""Records are frozen: they are defaults of arguments, keys of caches and shared between threads."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "dmf_fast"
# What is changed while something runs, and seen by nobody else.
STATES = {"OptimizerState", "DescentProgram", "Run", "Job", "_JobFiles", "_HeldOutReader", "_Input", "State"}
# What holds arrays and is a key, or is looked for among others: arrays have no single truth value.
COMPARED_BY_IDENTITY = {
    "completion": {
        "Candidate",
        "CompletedMatrix",
        "Coordinates",
        "LeadingDirections",
        "PhaseRun",
        "Prepared",
        "Start",
    },
    "evaluation": {"Biases", "HeldOut", "Split"},
    "serving": {"Neighbors", "Predictions", "Recommendations", "SeenColumns", "TrainedFolder", "TwoFactors"},
    "training": {"Fold", "Trial"},
}


def dataclasses_with(module: Path, option: str, *, missing: bool = False) -> set[str]:
    """Return the dataclasses of a module that have an option, or those that do not."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            ways = [ast.unparse(way) for way in node.decorator_list]
            if any(way.startswith("dataclass") and (option in way) != missing for way in ways):
                found.add(node.name)
    return found


@pytest.mark.parametrize(
    "package", sorted({path.parent for path in PACKAGE.rglob("*.py")}), ids=lambda path: path.name
)
def test_records_cannot_be_changed(package: Path) -> None:
    changeable = (dataclasses_with(module, "frozen=True", missing=True) for module in package.glob("*.py"))
    assert set().union(*changeable) <= STATES


@pytest.mark.parametrize("package", COMPARED_BY_IDENTITY)
def test_records_of_arrays_are_compared_by_identity(package: str) -> None:
    found = (dataclasses_with(module, "eq=False") for module in (PACKAGE / package).glob("*.py"))
    assert set().union(*found) >= COMPARED_BY_IDENTITY[package]
