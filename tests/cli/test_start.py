"""Imports of commands: none imports what it does not use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.runs import QUICK

PROGRAM = """
import atexit, json, sys
atexit.register(lambda: print("modules", json.dumps(sorted(sys.modules))))
from dmf_fast.cli.app import main
main()
"""


def modules_of(*arguments: object) -> set[str]:
    """Return the modules that a command has imported when it ends."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("modules "))
    return set(json.loads(line.removeprefix("modules ")))


@pytest.mark.parametrize("arguments", [("--help",), ("complete", "--help"), ("predict", "--help")])
def test_help_needs_neither_torch_nor_numpy(arguments: tuple[str, ...]) -> None:
    assert not modules_of(*arguments) & {"torch", "numpy", "pyarrow", "scipy", "rich", "yaml", "tomllib"}


def test_complete_imports_no_library_that_it_does_not_use(ratings_file: Path) -> None:
    imported = modules_of("complete", ratings_file, "--test", ratings_file, *QUICK)

    # The first optimizer of torch, where one is made, imports torch._dynamo, and that sympy.
    heavy = {"torch._dynamo", "sympy", "pandas", "matplotlib", "sklearn", "optuna", "scipy", "tensorboard"}
    assert not imported & (heavy | {"yaml", "jinja2"})


def test_a_function_goes_before_the_module_that_has_its_name() -> None:
    program = (
        "import dmf_fast.training.fit, dmf_fast.evaluation.evaluate\n"
        "from dmf_fast import fit\n"
        "from dmf_fast.evaluation import evaluate\n"
        "assert fit is dmf_fast.training.fit and callable(fit) and callable(evaluate)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
