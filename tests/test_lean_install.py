"""``pip install dmf-fast`` without extras: what it installs, what runs, and the messages for the rest."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.lean import CORE, MODULES, NEEDS, PUBLIC_NAMES, raised_without, sentence

ROOT = Path(__file__).resolve().parent.parent
# With dmf-fast itself; what torch brings for a GPU depends on the machine.
MOST_PACKAGES = 17
OF_A_GPU = ("nvidia-", "cuda-", "triton")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with a wheel of this tree, the torch of these tests and no extra."""
    folder = tmp_path_factory.mktemp("lean")
    # Elsewhere than in build/, whose lib/ keeps modules that are gone.
    (folder / "build.cfg").write_text(f"[build]\nbuild_base = {folder / 'build'}\n")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps"]
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": tools, "DIST_EXTRA_CONFIG": str(folder / "build.cfg")}
    subprocess.run([*pip, "--wheel-dir", folder, ROOT], env=environment, check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    install(python, f"torch=={torch.__version__.partition('+')[0]}", wheel)
    return python


def install(python: Path, *packages: object) -> None:
    subprocess.run([python, "-m", "pip", "install", "--quiet", *map(str, packages)], check=True)


def test_the_core_is_small(lean: Path) -> None:
    command = [lean, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)

    names = {one["name"].lower() for one in listed if not one["name"].lower().startswith(OF_A_GPU)}
    assert len(names - {"pip"}) <= MOST_PACKAGES, names


def test_the_first_examples_of_the_readme_run(lean: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.M)
    # The operators, and the paper: the third is of an extra.
    subprocess.run([lean, "-W", "error", "-c", "".join(blocks[:2])], cwd=tmp_path, check=True)


def test_every_part_runs_or_names_its_extra(lean: Path) -> None:
    raised = raised_without(["jinja2"], str(lean))  # which torch happens to bring

    assert {program: raised[program] for _, _, program in NEEDS} == {
        program: sentence(package, what) for package, what, program in NEEDS
    }
    assert [raised[program] for program in (PUBLIC_NAMES, MODULES, CORE)] == [None] * 3


def test_the_program_names_its_extra(lean: Path) -> None:
    done = subprocess.run([lean.with_name("dmf-fast"), "--help"], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (2, f"Error: {sentence('click', '`dmf-fast`')}\n")


def test_the_operators_pass_their_tests(lean: Path, tmp_path: Path) -> None:
    # Next to a copy of the tests there is no other dmf_fast than the installed one.
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    install(lean, "pytest", "hypothesis", "expecttest")
    options = ["-q", "-o", "addopts=--import-mode=importlib --strict-markers", "tests/ops"]
    subprocess.run([lean, "-m", "pytest", *options], cwd=tmp_path, check=True)
