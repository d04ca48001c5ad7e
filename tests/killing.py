"""Separate processes, in which runs are killed at random instants, again and again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

KILLS = 5
ROOT = Path(__file__).parents[1]


def assert_runs(script: str) -> None:
    """Run a script in a Python of its own, which may fork, as this one with its threads may not."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{script}"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def kill_again_and_again(run: Callable[[], object], has_begun: Callable[[], bool]) -> None:
    """Kill ``run`` in forked processes so many times, each time once something is on the disk.

    Fails where the run comes to its end before, or does not begin within a minute.
    """
    random_numbers = random.Random(0)
    for _ in range(KILLS):
        child = os.fork()
        if child == 0:
            run()
            os._exit(0)
        end = time.monotonic() + 60
        while not has_begun():
            assert time.monotonic() < end, "the run has written nothing within a minute"
            time.sleep(0.001)
        time.sleep(random_numbers.uniform(0.0, 0.15))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the run has ended before it was killed so many times"
