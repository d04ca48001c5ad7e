"""``dmf-fast prepare``: what it says, what it replaces, how it ends when it is stopped."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dmf_fast.data import block_writer, blocks
from dmf_fast.data.block_files import BLOCKS_FACTS, read_blocks_facts
from tests.cli.runs import Run
from tests.cli.test_start import modules_of


def test_a_file_becomes_blocks_and_one_line_says_so(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ratings.blocks"
    result = dmf_fast("prepare", ratings_file, "--out", out, "--blocks", 4)
    assert result.exit_code == 0, result.stderr
    facts = read_blocks_facts(out)
    assert (facts.blocks, facts.rows, facts.rows_a_block, facts.entries) == (4, 30, 8, 300)
    largest = max(facts.block_entries)
    assert result.stdout == (
        f"300 ratings of 30 rows and 20 columns in 4 blocks, the largest of {largest}: {out}\n"
    )
    assert result.stderr == ""


def test_bad_rows_are_shown_and_options_reach_the_reader(dmf_fast: Run, tmp_path: Path) -> None:
    source, out = tmp_path / "a.txt", tmp_path / "out"
    source.write_text("stars;viewer;film\n4.5;1;7\n3;2;7\nmany;2;9\n1;1;7\n", encoding="utf-16")
    options = ("--columns", "viewer,film,stars", "--separator", ";", "--encoding", "utf-16", "--blocks", 1)
    more = ("--duplicates", "sum", "--dtype", "float64")

    result = dmf_fast("prepare", source, "--out", out, *options, *more)

    assert result.exit_code == 0, result.stderr
    assert f"{source}: 1 bad row was skipped:\n  {source}, line 4: " in result.stderr
    facts = read_blocks_facts(out)
    assert (facts.entries, facts.largest, facts.dtype, facts.bad_rows.count) == (2, 5.5, "float64", 1)
    refused = dmf_fast("prepare", source, "--out", out, *options, "--strict", "--overwrite")
    assert refused.exit_code == 2
    assert f"{source}, line 4: " in refused.stderr
    assert read_blocks_facts(out) == facts


def test_ratings_of_standard_input_are_those_of_the_file(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path
) -> None:
    for out, source in (("a", ratings_file), ("b", "-")):
        given = None if source != "-" else ratings_file.read_bytes()
        command = ("prepare", source, "--out", tmp_path / out, "--blocks", 3)
        assert dmf_fast(*command, standard_input=given).exit_code == 0
    names = {path.name for path in (tmp_path / "a").iterdir()} - {BLOCKS_FACTS, "SHA256SUMS"}
    assert len(names) == 3 + 3 + 1
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_older_folder_is_replaced_only_where_that_is_asked_for(
    dmf_fast: Run, ratings_file: Path, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ("prepare", ratings_file, "--out", out, "--blocks")
    assert dmf_fast(*command, 2).exit_code == 0
    refused = dmf_fast(*command, 3)
    assert refused.exit_code == 2
    assert "out exists and is not empty; name another folder or pass --overwrite" in refused.stderr
    assert dmf_fast(*command, 3, "--overwrite").exit_code == 0
    assert read_blocks_facts(out).blocks == 3

    model = sorted(path.name for path in trained.iterdir())
    refused = dmf_fast("prepare", ratings_file, "--out", trained, "--blocks", 2, "--overwrite")
    assert refused.exit_code == 2
    assert re.search(
        r"model holds .*, which does not belong to row blocks, so the folder is not replaced", refused.stderr
    )
    assert sorted(path.name for path in trained.iterdir()) == model


def test_what_is_read_is_never_replaced(dmf_fast: Run, ratings_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ratings"
    folder.mkdir()
    (folder / "a.csv").write_bytes(ratings_file.read_bytes())
    for source, out, relation in (
        (folder / "a.csv", folder / "a.csv", "is a file"),
        (folder / "a.csv", folder, "contains RATINGS"),
        (folder, folder, "is RATINGS"),
        (folder, folder / "blocks", "lies in RATINGS"),
    ):
        refused = dmf_fast("prepare", source, "--out", out, "--overwrite", "--blocks", 2)
        assert refused.exit_code == 2
        assert relation in refused.stderr
    assert [path.name for path in folder.iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "prepare needs --out: name a folder to write, such as ratings.blocks"),
        (("--out", "out", "--blocks", 31), "`blocks` must be at most the number of rows, 30, got 31"),
        (("--out", "out", "--blocks", 0), "`--blocks` must be at least 1, got 0"),
        (("--out", "out", "--memory", 100), "`--memory` must be at least 400, got 100"),
    ],
)
def test_options_out_of_range_are_a_sentence(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    options: tuple[Any, ...], said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    result = dmf_fast("prepare", ratings_file, *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_older_folder(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("prepare", ratings_file, "--out", tmp_path / "out", "--blocks", 2)
    assert dmf_fast(*command).exit_code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for owner, name in ((block_writer.BlockWriter, "_write"), (blocks, "_write_id_file")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            result = dmf_fast(*command, "--overwrite")
        assert result.exit_code == 2
        assert "No space left on device" in result.stderr
        assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
        assert [path.name for path in tmp_path.iterdir()] == ["out"]


# In one phase, the command prints a line and starts a query that takes days.
ENDLESS = """
import signal
from dmf_fast.cli.app import main
from dmf_fast.data.deal import Deal

def endless(deal, *_, **__):
    print("there", flush=True)
    deal._execute("SELECT count(*) FROM range(1000000000000) WHERE hash(range) = 7")

Deal.{phase} = endless
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` has it ignored
main()
"""


@pytest.mark.parametrize(
    ("number", "phase"),
    [
        (signal.SIGINT, "add"),
        (signal.SIGTERM, "make"),
        (signal.SIGINT, "sorted_entries"),
        (signal.SIGTERM, "column_ids"),
    ],
)
def test_a_signal_ends_it_and_leaves_nothing(
    ratings_file: Path, tmp_path: Path, number: signal.Signals, phase: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    command = [sys.executable, "-c", ENDLESS.format(phase=phase), "prepare", ratings_file]
    command += ["--out", "out", "--blocks", "4"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            assert list(folder.iterdir())
            process.send_signal(number)
            _, said = process.communicate(timeout=600)
        finally:
            process.kill()

    assert (process.returncode, said) == (128 + number, "Interrupted.\n")
    assert not list(folder.iterdir())


def test_prepare_imports_no_torch(ratings_file: Path, tmp_path: Path) -> None:
    imported = modules_of("prepare", ratings_file, "--out", tmp_path / "out", "--blocks", 2)
    assert not imported & {"torch", "scipy", "pandas", "rich", "sklearn"}
