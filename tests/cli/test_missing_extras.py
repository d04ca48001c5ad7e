"""A command that lacks a package says so before it does anything."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.runs import QUICK, Run
from tests.lean import sentence


@pytest.mark.parametrize(
    ("package", "what", "arguments"),
    [
        ("duckdb", "`dmf-fast prepare`", ("prepare", "RATINGS", "--out", "OUT")),
        ("optuna", "`dmf-fast tune`", ("tune", "RATINGS", "--out", "OUT")),
        ("tensorboard", "`--tensorboard`", ("complete", "RATINGS", "--tensorboard", "OUT", *QUICK)),
        ("matplotlib", "`dmf-fast reproduce`", ("reproduce", "entries", "--out", "OUT")),
    ],
)
def test_a_missing_package_is_one_sentence_and_leaves_nothing_behind(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    package: str, what: str, arguments: tuple[str, ...],
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, package, None)
    paths = {"RATINGS": ratings_file, "OUT": tmp_path / "out"}

    refused = dmf_fast(*(paths.get(argument, argument) for argument in arguments))

    assert refused.exit_code == 2
    assert refused.stderr == f"Error: {sentence(package, what)}\n"
    assert not list(tmp_path.iterdir())
