"""What a user copies from examples/ runs as it is."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import blocks, ratings
from tests.killing import ROOT

EXAMPLES = ROOT / "examples"


def run(command: list[str | Path], folder: Path, **environment: str) -> str:
    """Return what a command prints, run in a folder with the tools of this Python on the path."""
    tools = os.pathsep.join((str(folder), str(Path(sys.executable).parent), os.environ["PATH"]))
    own = {"PATH": tools, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        command, cwd=folder, env=os.environ | own | environment, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_training_loop_reaches_an_error_near_the_noise(tmp_path: Path) -> None:
    printed = run([sys.executable, EXAMPLES / "train.py"], tmp_path)
    (best,) = re.findall(r"best validation RMSE ([\d.]+)", printed)
    assert float(best) < 0.2  # noise of 0.1 in the entries, whose size is 1
    assert (tmp_path / "model.pt").is_file()


def test_the_script_for_slurm_trains_the_grid_with_what_slurm_sets(tmp_path: Path) -> None:
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\nexec "$@"\n')
    srun.chmod(srun.stat().st_mode | stat.S_IXUSR)
    variables = {"SLURM_CPUS_PER_TASK": "1", "GRID": str(EXAMPLES / "grid.py")}
    run(["bash", EXAMPLES / "grid.slurm"], tmp_path, DMF_FAST_INSTRUCTION_SET="generic", **variables)
    assert len(list((tmp_path / "runs" / "grid").iterdir())) == 6


def test_the_grid_is_that_of_its_page() -> None:
    code = next(block.code for block in blocks("docs/grids.md") if block.language == "python")
    assert (EXAMPLES / "grid.py").read_text("utf-8").endswith(code)


def test_the_configuration_completes_ratings(tmp_path: Path) -> None:
    ratings(tmp_path, "ratings.csv", 900)
    ratings(tmp_path, "test.csv", 100)
    command = [sys.executable, "-m", "dmf_fast.cli", "complete", "ratings.csv", "--test", "test.csv"]
    run([*command, "--config", EXAMPLES / "complete.yaml", "--steps", "40", "--out", "model"], tmp_path)
    assert (tmp_path / "model" / "model-depth-2.safetensors").is_file()
    assert (tmp_path / "model" / "model-depth-3.safetensors").is_file()


def test_ratings_are_dealt_and_trained_on_by_two_processes(tmp_path: Path) -> None:
    pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install dmf-fast[prepare]")
    lines = [f"{user},{item},{(user * item) % 5 + 1}" for user in range(64) for item in range(user % 3, 12)]
    (tmp_path / "ratings.csv").write_text("\n".join(["user,item,rating", *lines]) + "\n")
    quick = ["--depth", "2", "--hidden", "4", "--steps", "20", "--quiet"]
    run(["bash", EXAMPLES / "complete_distributed.sh", "ratings.csv", *quick], tmp_path)
    assert (tmp_path / "ratings.model" / "SHA256SUMS").is_file()


def test_every_example_is_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text("utf-8")
    files = [file.name for file in EXAMPLES.iterdir() if file.is_file() and file.name != "README.md"]
    assert [name for name in files if f"]({name})" not in listed] == []
