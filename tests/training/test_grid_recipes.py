"""The recipes of docs/grids.md do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.killing import ROOT

DOCS = ROOT / "docs" / "grids.md"
QUICK = "--trials 3 --depth 2 --hidden 4 --steps 20 --evaluate-every 10 --validation-fraction 0.2 --quiet"


def blocks(language: str) -> list[str]:
    """Return the code in that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCS.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def run(command: list[str], folder: Path, **environment: str) -> None:
    tools = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    own = {"PATH": tools, "PYTHONPATH": os.pathsep.join((str(ROOT), str(folder))), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=os.environ | own | environment, capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where grid.py lies."""
    (tmp_path / "grid.py").write_text(blocks("python")[0])
    return tmp_path


def assert_ended(folder: Path) -> None:
    """Fail where the folder of the grid has anything but the results of its six trials."""
    names = [path.name for path in (folder / "runs" / "grid").iterdir()]
    assert len(names) == 6
    assert all(re.fullmatch("trial-[0-9a-f]{16}", name) for name in names)


def test_two_shells_share_a_grid(folder: Path) -> None:
    run(["bash", "-e", "-c", blocks("bash")[0]], folder)
    assert_ended(folder)


def test_joblib_shares_a_grid(folder: Path) -> None:
    (script,) = (block for block in blocks("python") if "import Parallel" in block)
    run([sys.executable, "-c", script], folder)
    assert_ended(folder)


def test_submitit_shares_a_grid(folder: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install submitit")
    (script,) = (block for block in blocks("python") if "import submitit" in block)
    run([sys.executable, "-c", script], folder)
    assert_ended(folder)


def test_two_commands_share_a_search(tmp_path: Path) -> None:
    lines = [f"{user},{item},{(user * item) % 5 + 1}" for user in range(30) for item in range(12)]
    (tmp_path / "ratings.csv").write_text("\n".join(["user,item,rating", *lines]) + "\n")
    (command,) = (block.strip() for block in blocks("bash") if "--journal" in block)
    quick = command.replace("--trials 40", QUICK)
    assert quick != command
    run(["bash", "-c", f"NAME=one; {quick} & NAME=two; {quick} && wait $!"], tmp_path)
    one, two = (pq.read_table(tmp_path / f"tuned-{name}" / "trials.parquet") for name in ("one", "two"))
    assert one.equals(two)
    assert one["number"].to_pylist() == [0, 1, 2]
