"""Children that run one function, and how each of them ended, seen from outside."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MOST_SECONDS = 10.0
MOST_MEMORY = 2 << 30
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


@dataclass(frozen=True)
class Ending:
    """How a child ended: its exit code, or minus the signal, or what it was killed for."""

    code: int
    output: str
    killed_for: str = ""

    @property
    def crash(self) -> str:
        """What no child may end with, in words; nothing where it ended by itself."""
        if self.killed_for:
            return self.killed_for
        return f"crashed by {signal.Signals(-self.code).name}" if self.code < 0 else ""


class Child:
    """A forked process that runs a function; it dies with this one.

    Its exit code is 0, that of a `SystemExit`, 130 after Ctrl-C, or 1 where the function raised, with the
    traceback in its output.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        self._pipe, writing = os.pipe()
        self._base = resident_bytes(os.getpid())
        self._output = b""
        self.started = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            _run_and_exit(function, writing)
        os.close(writing)
        os.set_blocking(self._pipe, False)

    def send(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to it and to what it has started."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(
        self,
        seconds: float = MOST_SECONDS,
        *,
        has_moved: Callable[[], bool] = lambda: False,
        every: float = 0.002,
        most_memory: int = MOST_MEMORY,
    ) -> Ending:
        """Wait until it ends; it is killed where it grows too large or does not move for so many seconds."""
        moved, killed_for = time.monotonic(), ""
        while True:
            self._drain()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if has_moved():
                moved = time.monotonic()
            if resident_bytes(self.pid) > self._base + most_memory:
                killed_for = f"took more than {most_memory >> 30} GB"
            elif time.monotonic() - moved > seconds:
                killed_for = "hung"
            if killed_for:
                self.send()
                _, status = os.waitpid(self.pid, 0)
                break
            time.sleep(every)
        self.send()  # whatever it has started
        self._drain()
        os.close(self._pipe)
        return Ending(os.waitstatus_to_exitcode(status), self._output.decode(errors="replace"), killed_for)

    def _drain(self) -> None:
        try:
            while block := os.read(self._pipe, 1 << 16):
                self._output += block
        except BlockingIOError:
            pass


def run_in_child(function: Callable[[], object], seconds: float = 600.0) -> None:
    """Run what must succeed, such as the making of seeds, so that its threads are not this process's."""
    ending = Child(function).wait(seconds)
    if ending.code != 0:
        raise RuntimeError(f"exit code {ending.code} {ending.killed_for}\n{ending.output}")


def resident_bytes(pid: int) -> int:
    """Return how much memory a process takes; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _run_and_exit(function: Callable[[], object], output: int) -> None:
    code = 1
    try:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        os.dup2(output, 1)
        os.dup2(output, 2)
        faulthandler.enable(2)
        warnings.simplefilter("ignore")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        function()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
