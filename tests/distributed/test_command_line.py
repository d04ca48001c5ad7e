"""The command line in several processes: one prints, and killed or stopped jobs resume to the same model."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dmf_fast.cli.app import app
from dmf_fast.data.blocks import prepare_blocks
from tests.distributed.processes import run_command

SECONDS = 180
BIN = Path(sys.executable).parent
SAME_FILES = ("model-depth-2.safetensors", "seen.safetensors", "row_ids.parquet", "column_ids.parquet",
              "biases.safetensors")  # fmt: skip
# Many short steps, of which there is a checkpoint every now and then.
JOB = shlex.split(
    "--depth 2 --hidden 16 --reproducible --steps 400 --patience 400 --validation-fraction 0.1 --no-refit "
    "--checkpoint-every 20 --weight-decay 0.01"
)


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ratings")
    generator = np.random.default_rng(0)
    users, items = np.unique(generator.integers((0, 0), (400, 60), size=(20_000, 2)), axis=0).T
    values = 3 + (generator.normal(size=(400, 2))[users] * generator.normal(size=(60, 2))[items]).sum(1)
    rows = [f"u{user},{item},{value:.3f}" for user, item, value in zip(users, items, values, strict=True)]
    (folder / "ratings.csv").write_text("\n".join(["user,item,rating", *rows]))
    (folder / "test.csv").write_text("user,item,rating\nu1,2,3.5\nu7,3,4.0\nnobody,3,2.0\nu9,999,1.0\n")
    return folder / "ratings.csv"


@pytest.fixture(scope="module")
def blocks(ratings: Path) -> Path:
    path = ratings.with_name("ratings.blocks")
    prepare_blocks(ratings, path, 4)
    return path


@pytest.fixture(scope="module")
def undisturbed(blocks: Path) -> Path:
    out = blocks.with_name("undisturbed")
    dmf_fast("complete", blocks, "--out", out, *JOB)
    return out


def dmf_fast(*arguments: object) -> str:
    """Return what a command prints that runs in this process."""
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def torchrun(processes: int, *arguments: object, options: Sequence[str] = ()) -> list[str]:
    started = [BIN / "torchrun", "--standalone", "--nproc-per-node", processes, *options]
    return [*map(str, started), "-m", "dmf_fast.cli", *map(str, arguments)]


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def same_model(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in SAME_FILES)


def wait_for_checkpoint(out: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + SECONDS
    while not list(out.with_name(out.name + ".partial").glob("checkpoints/*/*/version-*/SHA256SUMS")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def test_two_processes_leave_the_files_of_one_and_only_the_first_prints(
    blocks: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out, test = tmp_path / "model", blocks.with_name("test.csv")
    first, second = run_command(
        2, "complete", blocks, "--out", out, "--test", test, "--top-k", 3, "--json", *JOB
    )
    assert first.code == 0, first.stderr
    assert second == (0, "", "")
    assert same_model(out, undisturbed)
    results = json.loads(first.stdout)  # one object
    assert results["data"]["test_entries_with_unknown_ids"] == 2
    assert first.stderr.count("Trained in") == 1
    of_folder = json.loads(dmf_fast("evaluate", out, test, "--json"))["model"]
    of_job = results["runs"][0]["evaluation"]["model"]
    assert of_job["count"] == of_folder["count"] == 4
    assert of_job["rmse"] == pytest.approx(of_folder["rmse"], rel=1e-9)
    assert of_job["by_group"]["both known"]["count"] == of_folder["by_group"]["both known"]["count"] == 2


def refusal(*arguments: object) -> str:
    """Return what the first of two processes says where both refuse a command and the second is silent."""
    first, second = run_command(2, *arguments)
    assert (first.code, first.stdout) == (2, "")
    assert second == (2, "", "")
    return first.stderr


def test_ratings_that_are_not_blocks_are_refused_once_with_what_to_do(ratings: Path) -> None:
    said = refusal("complete", ratings)
    assert said.count("must be row blocks") == 1
    assert "dmf-fast prepare" in said


def test_an_invalid_option_is_reported_once(blocks: Path) -> None:
    said = refusal("complete", blocks, "--depth", "2", "--initialization", "balanced")
    assert said.count("`initialization` must be one of gaussian, uniform") == 1


def test_a_block_that_is_damaged_for_one_process_ends_all_with_one_sentence(
    blocks: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.blocks"
    shutil.copytree(blocks, damaged)
    last = damaged / "block-00003.arrow"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    ended = run_command(2, "complete", damaged)
    assert [one.code for one in ended] == [2, 2]
    said = "".join(one.stderr for one in ended)
    assert said.count("block-00003.arrow does not match SHA256SUMS") == 1


@pytest.mark.parametrize("resumed_by", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_ctrl_c_keeps_a_checkpoint_that_another_number_of_processes_resumes(
    blocks: Path, undisturbed: Path, tmp_path: Path, resumed_by: int
) -> None:
    out = tmp_path / "model"
    process = start(torchrun(2, "complete", blocks, "--out", out, *JOB))
    wait_for_checkpoint(out, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=SECONDS)
    assert not out.exists()
    assert "torchrun --nproc-per-node 2 -m dmf_fast.cli complete" in said
    assert said.count("Interrupted at step") == 1
    ended = run_command(resumed_by, "complete", blocks, "--out", out, "--resume", *JOB)
    assert [one.code for one in ended] == [0] * resumed_by, ended
    assert same_model(out, undisturbed)


@pytest.mark.parametrize(
    "delay",
    [
        pytest.param(None, id="after-a-checkpoint"),
        *(pytest.param(random.Random(seed).uniform(0, 8), marks=pytest.mark.slow) for seed in range(10)),
    ],
)
def test_a_process_that_is_killed_is_started_again_and_the_model_is_the_same(
    blocks: Path, undisturbed: Path, tmp_path: Path, delay: float | None
) -> None:
    out = tmp_path / "model"
    command = torchrun(2, "complete", blocks, "--out", out, "--resume", *JOB, options=("--max-restarts", "3"))
    process = start(command)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(workers := children.read_text().split()) < 2:
        time.sleep(0.01)
    if delay is None:
        wait_for_checkpoint(out, process)
    else:
        time.sleep(delay)
    with suppress(ProcessLookupError):  # it has ended
        os.kill(int(random.Random(str(delay)).choice(workers)), signal.SIGKILL)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    assert same_model(out, undisturbed)


def test_a_restart_after_the_folder_was_written_succeeds(blocks: Path, undisturbed: Path) -> None:
    before = (undisturbed / "metrics.json").read_bytes()
    (ended,) = run_command(1, "complete", blocks, "--out", undisturbed, "--resume", *JOB, restarts=1)
    assert ended.code == 0, ended.stderr
    assert "was already complete when a process failed" in ended.stderr
    assert (undisturbed / "metrics.json").read_bytes() == before
