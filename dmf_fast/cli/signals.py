"""Signals that end a command: SIGTERM and SIGHUP do what Ctrl-C does."""

from __future__ import annotations

import signal
from types import FrameType

from dmf_fast.training.interrupt import interrupt

_received = signal.SIGINT


def end_as_ctrl_c_does() -> None:
    """Have SIGTERM and SIGHUP end the command as Ctrl-C does, where nobody else takes care of them.

    For the process that the command has to itself: handlers belong to the process.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)


def exit_code() -> int:
    """Return how a command ends that a signal has interrupted.

    >>> exit_code()
    130
    """
    return 128 + _received


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _received
    _received = signal.Signals(number)
    interrupt(number, frame)
