"""What docs/distributed.md says: its code runs, and its table is that of the results."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bench.record import RESULTS
from bench.scaling_out import table
from tests.distributed.processes import run_command
from tests.killing import ROOT

DOCS = ROOT / "docs" / "distributed.md"
# Each process writes a file: what several print on one stream is interleaved.
KEEPS = """
import json
with open(f"losses-{os.environ.get('RANK', 'alone')}.json", "w") as file:
    json.dump([rows, columns, float(loss), *result.history["train_loss"]], file)
"""


def blocks(language: str) -> list[str]:
    """Return the code in that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCS.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def run(command: str, folder: Path) -> None:
    """Run a command of the docs in a shell."""
    tools = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    own = {"PATH": tools, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        command, cwd=folder, env=os.environ | own, capture_output=True, text=True, timeout=120,
        check=False, shell=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where ratings are dealt, and train.py lies."""
    made = tmp_path_factory.mktemp("docs")
    lines = [f"{user},{item},{(user * item) % 5 + 1}" for user in range(64) for item in range(user % 3, 12)]
    (made / "ratings.csv").write_text("\n".join(["user,item,rating", *lines]) + "\n")
    pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install dmf-fast[prepare]")
    run(blocks("bash")[0], made)
    (made / "train.py").write_text("".join(blocks("python")) + KEEPS)
    return made


def losses(folder: Path) -> dict[str, list[float]]:
    """Return the numbers that each process has kept, by its rank."""
    return {
        path.stem.removeprefix("losses-"): json.loads(path.read_text()) for path in folder.glob("losses-*")
    }


def test_the_loop_of_the_docs_trains_alike_alone_and_in_two_processes(folder: Path) -> None:
    run("python train.py", folder)
    (folder / "checkpoint").rename(folder / "checkpoint-of-one")
    run(next(block for block in blocks("bash") if "train.py" in block), folder)
    found = losses(folder)
    assert found.keys() == {"alone", "0", "1"}
    assert found["0"] == found["1"]
    assert found["0"] == pytest.approx(found["alone"], rel=1e-3)


def test_the_command_of_the_docs_trains_in_two_processes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (command,) = (shlex.split(block) for block in blocks("bash") if "complete ratings.blocks" in block)
    torchrun = shlex.split("torchrun --nproc-per-node 2 -m dmf_fast.cli")
    assert command[: len(torchrun)] == torchrun
    monkeypatch.chdir(folder)
    quick = ["--depth", "2", "--hidden", "4", "--steps", "20", "--quiet"]
    assert [one.code for one in run_command(2, *command[len(torchrun) :], *quick)] == [0, 0]
    assert (folder / "model" / "SHA256SUMS").is_file()


def test_the_table_of_the_docs_is_that_of_the_results() -> None:
    text = DOCS.read_text("utf-8")
    (name,) = set(re.findall(r"bench/results/([\w-]*scaling-out\.json)", text))
    assert table(json.loads((RESULTS / name).read_text("utf-8"))) in text
