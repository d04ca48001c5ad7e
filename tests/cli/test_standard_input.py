"""Wherever a file is read, ``-`` is standard input, and a pipe is read whole."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.cli.runs import QUICK, Run, json_of

PAIRS = b"100\tfilm 3\n101\tfilm 4\n"


def test_predictions_at_pairs_of_standard_input(dmf_fast: Run, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_bytes(PAIRS)

    from_file = dmf_fast("predict", trained, tmp_path / "pairs.tsv")
    from_input = dmf_fast("predict", trained, "-", standard_input=PAIRS)

    assert from_input.exit_code == 0, from_input.stderr
    assert from_input.stdout == from_file.stdout


def test_ratings_and_users_of_standard_input(
    dmf_fast: Run, trained: Path, ratings_file: Path, tmp_path: Path
) -> None:
    ratings = ratings_file.read_bytes()

    from_file = json_of(dmf_fast("evaluate", trained, ratings_file, "--json"))
    assert json_of(dmf_fast("evaluate", trained, "-", "--json", standard_input=ratings)) == from_file

    arguments = ("recommend", trained, "--users", "-", "--out", tmp_path / "out.csv")
    assert dmf_fast(*arguments, standard_input=b"100\n101\n").exit_code == 0
    rows = [line.partition(",")[0] for line in (tmp_path / "out.csv").read_text().splitlines()]
    assert set(rows) == {'"user"', '"100"', '"101"'}


def test_a_model_of_a_pipe_is_that_of_the_file(dmf_fast: Run, ratings_file: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(ratings_file.read_bytes(),))
    writer.start()

    from_pipe = json_of(dmf_fast("complete", tmp_path / "pipe", "--json", *QUICK))
    writer.join()
    from_file = json_of(dmf_fast("complete", ratings_file, "--json", *QUICK))

    assert from_pipe["data"] == from_file["data"]
    assert from_pipe["data"]["entries"] == 300


@pytest.mark.parametrize("option", ["ratings", "--test", "--validation"])
def test_nothing_on_standard_input_is_named(dmf_fast: Run, ratings_file: Path, option: str) -> None:
    names = ["-"] if option == "ratings" else [ratings_file, option, "-"]

    result = dmf_fast("complete", *names, *QUICK, standard_input=b"")

    assert result.exit_code == 2
    assert "standard input is empty" in result.stderr


@pytest.mark.parametrize(
    ("options", "readers"),
    [
        (
            ["recommend", "MODEL", "--users", "-", "--candidates", "@-", "--out", "x.csv"],
            "--users and --candidates",
        ),
        (
            ["recommend", "MODEL", "100", "--candidates", "@-", "--exclude", "@-"],
            "--candidates and --exclude",
        ),
        (["complete", "-", "--test", "-"], "RATINGS and --test"),
        (["tune", "-", "--test", "-", "--validation", "-"], "RATINGS and --test and --validation"),
        (["evaluate", "MODEL", "-", "--ratings", "-"], "TEST and --ratings"),
    ],
)
def test_standard_input_is_read_only_once(
    dmf_fast: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str],
    readers: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    words = [trained if word == "MODEL" else word for word in options]

    result = dmf_fast(*words, standard_input=b"film 3\n")

    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: Only one input can be standard input, got {readers};")
    assert list(tmp_path.iterdir()) == []
