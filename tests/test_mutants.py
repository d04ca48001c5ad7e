"""The planted bugs: the list of the kernels fits their sources, and what is reported is what came out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from bench import mutants
from bench.mutants import Mutant

BUGS = yaml.safe_load(mutants.NATIVE_MUTANTS.read_text(encoding="utf-8"))
TRIED = [
    Mutant("data", "dmf_fast/data/a.py:3", "x → y", killed, 1.25) for killed in (True, True, False, True)
] + [Mutant("csrc", "csrc/b.cpp:9", "p → q", True, 9.0)]


@pytest.mark.parametrize("bug", BUGS, ids=[f"{bug['file']} {bug['was'][:20]}" for bug in BUGS])
def test_what_is_replaced_occurs_once_in_its_file(bug: dict[str, str]) -> None:
    assert (mutants.ROOT / "csrc" / bug["file"]).read_text(encoding="utf-8").count(bug["was"]) == 1
    assert bug["becomes"] != bug["was"]


def test_every_package_that_is_drawn_from_has_sources_and_tests() -> None:
    for package in mutants.PACKAGES:
        sources, tests = mutants.ELSEWHERE.get(package, ([f"dmf_fast/{package}"], [f"tests/{package}"]))
        assert all((mutants.ROOT / path).exists() for path in (*sources, *tests, *mutants.OF_ALL_PACKAGES))


def test_the_share_that_was_noticed_is_reported_by_package(tmp_path: Path) -> None:
    mutants.write(tmp_path / "new" / "mutants.json", TRIED, count=4, seed=3)
    report = json.loads((tmp_path / "new" / "mutants.json").read_text(encoding="utf-8"))
    assert report["packages"] == {
        "data": {"planted": 4, "killed": 3, "rate": 0.75},
        "csrc": {"planted": 1, "killed": 1, "rate": 1.0},
    }
    assert [one["killed"] for one in report["mutants"]] == [one.killed for one in TRIED]
    lines = mutants.table(TRIED).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["data", "4", "3", "75%", "below", "85%"], ["csrc", "1", "1", "100%"],
    ]  # fmt: skip


def test_a_change_is_described_by_its_lines() -> None:
    assert mutants.changed_lines("--- a\n+++ b\n@@ -1 +1 @@\n x\n-  y = 1\n+  y = 2") == "y = 1 → y = 2"


@pytest.mark.parametrize(
    ("code", "noticed"), [("pass", False), ("exit(1)", True), ("while True: pass", True)]
)
def test_tests_notice_a_bug_where_they_fail_or_do_not_end(tmp_path: Path, code: str, noticed: bool) -> None:
    script = tmp_path / "tests"
    script.write_text(f"#!{sys.executable}\n{code}\n")
    script.chmod(0o755)
    assert mutants.fails(str(script), limit=0.5 if "while" in code else 600.0) == noticed
