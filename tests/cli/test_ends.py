"""Commands that end by a signal, a closed stream or an odd argument give a sentence and an exit code."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dmf_fast.cli.output_folder import OutputFolder
from tests.cli.runs import MODEL, QUICK, Run

COMMAND = [sys.executable, "-m", "dmf_fast.cli"]
ESCAPE = "\x1b[31m"


def ended(*arguments: object, **how: object) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=600, check=False, **how)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize(
    ("number", "ignored"),
    [(signal.SIGTERM, True), (signal.SIGHUP, False)],
)
def test_a_signal_saves_and_prints_how_to_resume(
    ratings_file: Path, tmp_path: Path, number: signal.Signals, ignored: bool
) -> None:
    out = tmp_path / "out"
    options = ["--depth", "2", "--hidden", "4", "--steps", "100000000", "--evaluate-every", "1000"]
    options += ["--patience", "100000000", "--checkpoint-every", "3000", "--quiet", "--out", str(out)]

    def handlers() -> None:  # a shell has SIGINT ignored where a command runs in the background
        signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)

    with subprocess.Popen(
        [*COMMAND, "complete", str(ratings_file), *options],
        stderr=subprocess.PIPE, text=True, preexec_fn=handlers,
    ) as process:  # fmt: skip
        try:
            wait_for_a_checkpoint(tmp_path)
            process.send_signal(number)
            _, said = process.communicate(timeout=600)
        finally:
            process.kill()

    assert process.returncode == 128 + number, said
    assert said.startswith("Interrupted at step "), said
    assert "resume with\n  dmf-fast complete" in said
    assert OutputFolder(out, resume=True).holds_checkpoint


def wait_for_a_checkpoint(folder: Path) -> None:
    end = time.monotonic() + 600
    while time.monotonic() < end:
        with suppress(FileNotFoundError):  # a folder that has its name for a moment
            if any(folder.rglob("version-*")):
                return
        time.sleep(0.01)
    pytest.fail("there is no checkpoint within ten minutes")


@pytest.mark.parametrize("arguments", [["--help"], ["info"]])
def test_output_that_cannot_be_printed_is_a_sentence(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = ended(*arguments, stdout=full)
    assert done.returncode == 2
    assert re.fullmatch(r"Error: .*No space left on device.*\n", done.stderr), done.stderr


def test_output_that_is_closed_is_a_sentence() -> None:
    done = ended("--help", preexec_fn=lambda: os.close(1))
    assert done.returncode == 2
    assert re.fullmatch(r"Error: .*Bad file descriptor.*\n", done.stderr), done.stderr


def test_a_closed_pipe_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = ended("--help", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_short_memory_is_a_sentence(
    dmf_fast: Run, ratings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
    ):

        def short(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("dmf_fast.cli.problem.open_ratings", short)
        result = dmf_fast("complete", ratings_file, *QUICK)
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: there is not enough memory")


@pytest.mark.parametrize(
    "options",
    [
        ["--steps", "9" * 5000],
        ["--steps", "1" + "0" * 30],
        ["--seed", "1" + "0" * 30],
        ["--hidden", "1" + "0" * 30],
        ["--threads", "1" + "0" * 30],
        ["--checkpoint-every", "1" + "0" * 30, "--out", "x"],
        ["--depth", "1" + "0" * 30],
        ["--depth", "9" * 5000],
        ["--lr", "1e400"],
        ["--columns", ESCAPE],
        [f"--{ESCAPE}"],
        ["--separator", "\ud800"],
        ["--dtype", f"{ESCAPE}\udcff"],
        ["--top-k", "1" + "0" * 30, "--test", "{ratings}"],
        ["--singular-values", "1" + "0" * 30],
        ["--evaluate-every", "1" + "0" * 30],
        ["--patience", "1" + "0" * 30],
    ],
)
def test_an_option_of_any_value_ends_in_a_sentence_or_well(
    dmf_fast: Run, ratings_file: Path, tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [option.replace("{ratings}", str(ratings_file)) for option in options]
    result = dmf_fast("complete", ratings_file, *QUICK, *filled)
    assert result.exit_code in (0, 2)
    assert len(result.stderr) < 5000
    if result.exit_code == 2:
        assert "Error: " in result.stderr


def test_control_characters_of_arguments_stay_text() -> None:
    said = ended("complete", f"{ESCAPE}nowhere.csv", f"--{ESCAPE}x", stdout=subprocess.PIPE).stderr
    assert "\x1b" not in said
    assert r"\x1b[31m" in said


def test_ids_of_any_characters_are_shown_and_kept(dmf_fast: Run, tmp_path: Path) -> None:
    item, user = f"{ESCAPE}red\x07[bold]x[/bold]", "-5"
    lines = [f"{row},item {column},{1 + (row * column) % 5}" for row in (-5, -4, 2, 3) for column in range(5)]
    lines += [f"{row},{item},5" for row in (-4, 2)]
    (tmp_path / "r.csv").write_text("user,item,rating\n" + "\n".join(lines) + "\n")
    model = tmp_path / "model"
    assert dmf_fast("complete", tmp_path / "r.csv", "--out", model, *QUICK).exit_code == 0

    shown = dmf_fast("recommend", model, user, "--count", "9")
    assert shown.exit_code == 0, shown.stderr
    assert r"\x1b[31mred\x07[bold]x[/bold]" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert "For -5" in shown.stdout
    as_json = dmf_fast("recommend", model, user, "--json")
    assert json.loads(as_json.stdout)["recommendations"][0]["item"] == item
    out = tmp_path / "out.csv"
    assert dmf_fast("recommend", model, "--all", "--count", "9", "--out", out).exit_code == 0
    assert item in out.read_text()
    assert dmf_fast("recommend", model, "--similar", item).exit_code == 0
    assert (model / MODEL).is_file()


@pytest.mark.parametrize(
    "arguments", [["-5"], ["--count", "1", "-5"], ["-5", "--count", "1"], ["--", "-5"], ["-5.5"]]
)
def test_a_negative_number_is_an_argument_not_an_option(
    dmf_fast: Run, trained: Path, arguments: list[str]
) -> None:
    result = dmf_fast("recommend", trained, *arguments)
    assert result.exit_code == 2
    assert f"The user '{arguments[-1] if arguments[-1][0] == '-' else '-5'}' is not among" in result.stderr


def test_an_unknown_option_is_refused(dmf_fast: Run, trained: Path) -> None:
    assert "-x" in dmf_fast("recommend", trained, "-x").stderr


def test_one_of_several_processes_ends_without_finalizing_python() -> None:
    # which threads of gloo may not survive
    script = (
        "import atexit, os, sys; from dmf_fast.cli.app import main; "
        "Late = type('Late', (), {'__del__': lambda self: os.write(1, b'taken down')}); late = Late(); "
        "atexit.register(os.write, 1, b'at exit'); sys.argv = ['dmf-fast', 'no-such-command']; main()"
    )
    together = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost"}
    for processes, said in ((together, b"at exit"), ({}, b"at exittaken down")):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=os.environ | processes)
        assert (done.stdout, done.returncode) == (said, 2)
