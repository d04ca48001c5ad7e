"""Ctrl-C that takes effect at the end of a step."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType

_ONE_WISH = 5.0  # seconds


class DeferredInterrupt:
    """Records a first SIGINT instead of raising `KeyboardInterrupt` during an update; a second one raises.

    It has an effect only in the main thread, and only if Python's default handler is installed.

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
        """Replace Python's handler."""
        if self._in_main_thread:
            _active.append(self)
        if self._in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self.note)
            self._installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore Python's handler."""
        if self._in_main_thread:
            _active.remove(self)
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Record a first signal, and raise `KeyboardInterrupt` at a second one."""
        now, before = (number, time.monotonic()), self._last
        # After the SIGINT of a terminal, a launcher such as torchrun sends SIGTERM: both are one request.
        is_same = number == signal.SIGTERM and before[0] == signal.SIGINT and now[1] - before[1] < _ONE_WISH
        if self.requested and not is_same:
            signal.default_int_handler(number, frame)
        self.requested, self._last = True, now


def interrupt(number: int, frame: FrameType | None) -> None:
    """Act like Ctrl-C, as the handler of another signal, even if SIGINT is ignored."""
    if _active:
        _active[0].note(number, frame)  # the outermost one has the handler
    else:
        signal.default_int_handler(number, frame)


_active: list[DeferredInterrupt] = []
