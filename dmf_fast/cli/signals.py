"""Signals that end a command: SIGTERM and SIGHUP act like Ctrl-C."""

from __future__ import annotations

import signal
from types import FrameType

from dmf_fast.training.interrupt import interrupt

_received = signal.SIGINT


def end_as_ctrl_c_does() -> None:
    """Make SIGTERM and SIGHUP end the command like Ctrl-C, unless they already have a handler.

    Only for a process that runs nothing but the command, as handlers belong to the process.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)


def exit_code() -> int:
    """Return the exit code of a command that a signal interrupted.

    >>> exit_code()
    130
    """
    return 128 + _received


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _received
    _received = signal.Signals(number)
    interrupt(number, frame)
