"""Ctrl-C that waits for the end of a step."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType

_ONE_WISH = 5.0  # seconds


class DeferredInterrupt:
    """Notes a first SIGINT instead of raising `KeyboardInterrupt` amid an update; a second one raises.

    It does so only in the main thread and where Python's own handler is in place.

    >>> before = signal.signal(signal.SIGINT, signal.default_int_handler)
    >>> with DeferredInterrupt() as interrupt:
    ...     signal.raise_signal(signal.SIGINT)
    ...     interrupt.requested
    True
    >>> _ = signal.signal(signal.SIGINT, before)
    """

    def __init__(self) -> None:
        self.requested = False
        self._last = (0, 0.0)  # signal, and when it came
        self._installed = False
        self._in_main_thread = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> DeferredInterrupt:
        """Take the place of Python's handler."""
        if self._in_main_thread:
            _active.append(self)
        if self._in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self.note)
            self._installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put Python's handler back."""
        if self._in_main_thread:
            _active.remove(self)
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Take note of a first signal, and raise `KeyboardInterrupt` at a second one."""
        now, before = (number, time.monotonic()), self._last
        # After the SIGINT of a terminal a launcher such as torchrun sends SIGTERM: that is one wish.
        is_same = number == signal.SIGTERM and before[0] == signal.SIGINT and now[1] - before[1] < _ONE_WISH
        if self.requested and not is_same:
            signal.default_int_handler(number, frame)
        self.requested, self._last = True, now


def interrupt(number: int, frame: FrameType | None) -> None:
    """Do what Ctrl-C does, as the handler of another signal, also where SIGINT is ignored."""
    if _active:
        _active[0].note(number, frame)  # the outermost has the handler
    else:
        signal.default_int_handler(number, frame)


_active: list[DeferredInterrupt] = []
