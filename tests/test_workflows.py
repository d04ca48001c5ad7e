"""The hosted CI runs what also runs here, for the versions that the package declares."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PUBLISH = ("wheels.yml", "publish")


def workflow(file: Path) -> dict[Any, Any]:
    return yaml.safe_load(file.read_text("utf-8"))


def jobs() -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    for file in FILES:
        for name, job in workflow(file)["jobs"].items():
            yield (file.name, name), job


def commands() -> list[str]:
    return [step["run"] for _, job in jobs() for step in job["steps"] if "run" in step]


def test_every_command_runs_here_too() -> None:
    known = re.compile(r"make [\w-]+|python -m pip install \S+==\S+|CIBW_BUILD=.* python -m cibuildwheel .*")
    assert len(commands()) >= 8
    assert [command for command in commands() if not known.fullmatch(command)] == []


def test_every_target_that_is_made_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([\w-]+):(?!=)", makefile, re.MULTILINE))
    made = {command.split()[1] for command in commands() if command.startswith("make ")}
    assert made <= targets


@pytest.mark.parametrize("job", [("tests.yml", "python"), ("wheels.yml", "wheel")])
def test_tests_and_wheels_cover_the_declared_pythons(job: tuple[str, str]) -> None:
    declared = [name for name in PYPROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", name)]
    versions = [name.rpartition(" ")[2] for name in declared]
    assert dict(jobs())[job]["strategy"]["matrix"]["python"] == versions
    assert PYPROJECT["project"]["requires-python"] == f">={versions[0]}"
    tags = ",".join(version.removeprefix("3.1") for version in versions)
    assert PYPROJECT["tool"]["cibuildwheel"]["build"] == f"cp31{{{tags}}}-manylinux_*"


def test_actions_are_pinned_to_a_commit_and_name_its_version() -> None:
    used = [line for file in FILES for line in file.read_text("utf-8").splitlines() if "uses:" in line]
    assert used
    for line in used:
        assert re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_only_the_job_that_publishes_may_do_more_than_read() -> None:
    for file in FILES:
        assert workflow(file)["permissions"] == {"contents": "read"}
    assert {name: job["permissions"] for name, job in jobs() if "permissions" in job} == {
        PUBLISH: {"id-token": "write"}
    }
    assert dict(jobs())[PUBLISH]["if"] == "github.event_name == 'push'"
    # YAML reads the key `on` as true.
    assert workflow(ROOT / ".github" / "workflows" / PUBLISH[0])[True]["push"] == {"tags": ["v*"]}


def test_wheels_are_repaired_alike_here_and_there() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", " ")
    (here,) = re.findall(r"auditwheel repair (.*) --wheel-dir", makefile)
    there = PYPROJECT["tool"]["cibuildwheel"]["linux"]["repair-wheel-command"]
    assert f"auditwheel repair {here.strip()} --wheel-dir" in there


def test_the_oldest_torch_is_the_same_everywhere() -> None:
    (oldest,) = re.findall(r"^OLDEST_TORCH = \((\d+), (\d+)\)$", (ROOT / "setup.py").read_text("utf-8"), re.M)
    version = ".".join(oldest)
    assert f"torch>={version}" in PYPROJECT["project"]["dependencies"]
    assert f"torch>={version}" in PYPROJECT["build-system"]["requires"]
    assert f"python -m pip install 'torch=={version}.*'" in PYPROJECT["tool"]["cibuildwheel"]["test-command"]
    targets = re.findall(
        r"TORCH_TARGET_VERSION=0x(\w{2})(\w{2})0{12}\b", (ROOT / "CMakeLists.txt").read_text("utf-8")
    )
    assert targets
    assert {(str(int(major, 16)), str(int(minor, 16))) for major, minor in targets} == {oldest}
