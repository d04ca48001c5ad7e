"""What docs/distributed.md says: its code runs, and its table is that of the results."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.record import RESULTS
from bench.scaling_out import table
from tests.killing import ROOT

DOCS = ROOT / "docs" / "distributed.md"
# What each process prints in the end.
SAYS = "\nprint('loss', rows, columns, float(loss), *result.history['train_loss'])\n"


def blocks(language: str) -> list[str]:
    """Return the code in that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCS.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def run(command: str, folder: Path, **environment: str) -> str:
    """Return what a command of the docs prints, in a shell."""
    tools = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    own = {"PATH": tools, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        command, cwd=folder, env=os.environ | own | environment, capture_output=True, text=True, timeout=120,
        check=False, shell=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where ratings are dealt, and train.py lies."""
    made = tmp_path_factory.mktemp("docs")
    lines = [f"{user},{item},{(user * item) % 5 + 1}" for user in range(64) for item in range(user % 3, 12)]
    (made / "ratings.csv").write_text("\n".join(["user,item,rating", *lines]) + "\n")
    pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install dmf-fast[prepare]")
    run(blocks("bash")[0], made)
    (made / "train.py").write_text("".join(blocks("python")) + SAYS)
    return made


def losses(printed: str) -> list[list[float]]:
    """Return the numbers that each process has printed."""
    lines = re.findall("^loss (.*)$", printed, re.MULTILINE)
    return [[float(word) for word in line.split()] for line in lines]


def test_the_loop_of_the_docs_trains_alike_alone_and_in_two_processes(folder: Path) -> None:
    (alone,) = losses(run("python train.py", folder))
    command = next(block for block in blocks("bash") if "train.py" in block)
    (folder / "checkpoint").rename(folder / "checkpoint-of-one")
    together = losses(run(command, folder))
    assert len(together) == 2
    assert together[0] == together[1]
    assert together[0] == pytest.approx(alone, rel=1e-3)


def test_the_command_of_the_docs_trains_in_two_processes(folder: Path) -> None:
    (command,) = (block.strip() for block in blocks("bash") if "complete ratings.blocks" in block)
    run(f"{command} --depth 2 --hidden 4 --steps 20 --quiet", folder)
    assert (folder / "model" / "SHA256SUMS").is_file()


def test_the_table_of_the_docs_is_that_of_the_results() -> None:
    text = DOCS.read_text("utf-8")
    (name,) = set(re.findall(r"bench/results/([\w-]*scaling-out\.json)", text))
    assert table(json.loads((RESULTS / name).read_text("utf-8"))) in text
