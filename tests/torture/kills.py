"""Random kills of everything that saves: SIGKILL, and Ctrl-C and SIGTERM for commands."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

from tests.torture.children import Child, Ending
from tests.torture.findings import Findings
from tests.torture.harm import Undisturbed, after_going_on, after_harm, undisturbed
from tests.torture.saves import CommandFailed, Save, copied

A_PROCESS_OF_ITS_OWN = 0.02
"""The part of the kills of commands that take a process of its own, which takes seconds to start."""


def kill(save: Save, seed: str, seconds: float, scratch: Path) -> Findings:
    """Kill one save again and again for so many seconds."""
    random, findings = Random(f"{seed} kill {save.name}"), Findings("kills")
    whole, ends = undisturbed(save, scratch), time.monotonic() + seconds
    while time.monotonic() < ends:
        folder = copied(whole.start, scratch / "work")
        fault = None
        for _ in range(random.randint(1, save.longest_chain)):
            findings.tried += 1
            fault = _killed(save, whole, folder, random) or after_harm(save, whole, folder)
            if fault:
                break
        fault = fault or after_going_on(save, whole, folder)
        if fault:
            findings.add(f"{save.name}: {fault}")
    return findings


def _killed(save: Save, whole: Undisturbed, folder: Path, random: Random) -> str | None:
    """Stop a save at a random instant; return what is wrong with how it ended."""
    delay = random.uniform(0, 1.1 * whole.seconds) / random.choice((1, save.longest_chain))
    number = signal.SIGKILL
    if save.arguments is not None:
        number = random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM))
        if random.random() < A_PROCESS_OF_ITS_OWN:
            return _fault(save.name, _killed_process(save, folder, number, random.uniform(0, 4)))
    child = Child(lambda: _save(save, folder))
    time.sleep(delay)
    child.send(number)
    return _fault(save.name, child.wait(30.0))


def _save(save: Save, folder: Path) -> None:
    try:
        save.save(folder)
    except CommandFailed as failed:
        print(failed.stderr, file=sys.stderr)
        raise SystemExit(failed.code) from failed


def _killed_process(save: Save, folder: Path, number: signal.Signals, delay: float) -> Ending:
    """Run ``dmf-fast`` and stop it."""
    assert save.arguments is not None
    words = [sys.executable, "-m", "dmf_fast.cli", *map(str, save.arguments(folder))]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(delay)
    process.send_signal(number)
    try:
        _, errors = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        return Ending(-signal.SIGKILL, "", "did not end after a signal")
    return Ending(process.returncode, errors)


def _fault(name: str, ending: Ending) -> str | None:
    if ending.killed_for:
        return ending.killed_for
    if "Traceback" in ending.output:
        return f"a traceback: {ending.output.strip().splitlines()[-1][:300]}"
    if ending.code < 0 and -ending.code not in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        return ending.crash
    return None
