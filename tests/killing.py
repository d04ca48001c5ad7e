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
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def kill_again_and_again(run: Callable[[], object], has_begun: Callable[[], bool]) -> None:
    """Kill ``run`` in forked processes so many times, once something is on the disk.

    A run that ends first, as on a fast machine or if this process gets no processor, is killed at its end.
    """
    random_numbers, begun = random.Random(0), False
    for _ in range(KILLS):
        child = os.fork()
        if child == 0:
            run()
            while True:
                signal.pause()
        end = time.monotonic() + 300
        while not begun:
            begun = has_begun()
            assert time.monotonic() < end, "the run has written nothing within five minutes"
            time.sleep(0.001)
        time.sleep(random_numbers.uniform(0.0, 0.15))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the run has failed"
