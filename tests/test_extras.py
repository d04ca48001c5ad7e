"""What runs with the core alone, and the message if a part needs more."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections import deque
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from dmf_fast.extras import PACKAGES
from tests.lean import CORE, MODULES, NEEDS, PUBLIC_NAMES, raised_without, sentence

PYPROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))["project"]


def core_distributions() -> set[str]:
    """Return the names of all that ``pip install dmf-fast`` installs here."""
    found: set[str] = set()
    waiting = deque(PYPROJECT["dependencies"])
    while waiting:
        requirement = Requirement(waiting.popleft())
        name = normalized(requirement.name)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and name not in found:
            found.add(name)
            waiting += metadata.requires(name) or []
    return found


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def raised() -> dict[str, str | None]:
    """What programs raise that may import the core alone."""
    core = core_distributions() | {"dmf-fast"}
    blocked = [
        name
        for name, owners in metadata.packages_distributions().items()
        if not core & {normalized(owner) for owner in owners}
    ]
    assert {"pandas", "sklearn", "click"} <= set(blocked)
    return raised_without([*blocked, "jinja2"])  # which torch happens to bring


@pytest.mark.parametrize(("package", "what", "program"), NEEDS)
def test_a_missing_package_ends_in_the_sentence_that_names_the_command(
    raised: dict[str, str | None], package: str, what: str, program: str
) -> None:
    assert raised[program] == sentence(package, what)


def test_names_without_their_package_are_hidden_and_all_others_need_the_core_alone(
    raised: dict[str, str | None],
) -> None:
    assert raised[PUBLIC_NAMES] is None


def test_all_modules_but_those_of_parts_with_an_extra_import_the_core_alone(
    raised: dict[str, str | None],
) -> None:
    assert raised[MODULES] is None


def test_the_core_trains_measures_and_predicts(raised: dict[str, str | None]) -> None:
    assert raised[CORE] is None


@pytest.mark.parametrize("package", ["click", "rich", "yaml", "jinja2"])
def test_the_program_says_at_once_which_package_it_lacks(package: str) -> None:
    program = f"import sys; sys.modules[{package!r}] = None; from dmf_fast.cli.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True)

    assert done.returncode == 2
    assert done.stderr == f"Error: {sentence(package, '`dmf-fast`')}\n"


def test_the_sentences_name_the_extra_that_installs_the_package() -> None:
    extras = PYPROJECT["optional-dependencies"]
    (bundle,) = extras["all"]
    listed = {
        (normalized(Requirement(line).name), extra)
        for extra in Requirement(bundle).extras
        for line in extras[extra]
        if not line.startswith("dmf-fast[")
    }
    named = {(normalized(name), extra) for name, extra in PACKAGES.values()}
    assert named <= listed
    assert {name for name, _ in listed} == {name for name, _ in named}
