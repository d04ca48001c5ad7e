"""Processes that may hang in the driver of a GPU, where even a kill has to wait."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

TO_DIE = 2.0  # seconds that a killed process gets


def run(
    arguments: Sequence[str | Path], seconds: float, said: Callable[[str], None], grace: float = 0, **how: Any
) -> int | None:
    """Run a command that takes at most so many seconds, and hand every line of its output on.

    Args:
        grace: seconds from an interrupt to a kill.
        how: as for `subprocess.Popen`; with ``start_new_session`` all its descendants are killed as well.

    Returns:
        its status, or None where it was stopped. What survives a kill is left behind: no part waits for it.
    """
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"} | how
    child = subprocess.Popen(arguments, **how)
    reader = Thread(target=_hand_on, args=(child, said), daemon=True)
    reader.start()

    def ended(within: float) -> bool:
        ends = time.monotonic() + within
        reader.join(within)
        with suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, ends - time.monotonic()))
        return not reader.is_alive() and child.returncode is not None

    def send(number: int) -> None:
        if "start_new_session" in how:
            with suppress(ProcessLookupError):  # descendants may live on where the process is gone
                os.killpg(child.pid, number)
        else:
            child.send_signal(number)

    stopped = True
    try:
        stopped = not ended(seconds)
        if stopped and grace > 0:
            send(signal.SIGINT)
            ended(grace)
    finally:
        if stopped:
            send(signal.SIGKILL)
    if stopped and not ended(TO_DIE):
        said("a process cannot be killed and is left behind")
    return None if stopped else child.returncode


def _hand_on(child: subprocess.Popen[str], said: Callable[[str], None]) -> None:
    assert child.stdout is not None
    with child.stdout:
        for line in child.stdout:
            said(line.rstrip("\n"))
