"""Progress of a job on standard error, so that a log file is not silent for hours."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dmf_fast.cli.streams import say
from dmf_fast.training import Callback, Progress

SECONDS_BETWEEN_LINES = 30.0


def shows_lines(*, quiet: bool) -> bool:
    """Return whether progress is shown as lines: if there is no terminal for a bar, and not ``quiet``."""
    return not quiet and not sys.stderr.isatty()


def spoken_progress(
    steps: int,
    name: str,
    every: float = SECONDS_BETWEEN_LINES,
    clock: Callable[[], float] = time.monotonic,
) -> Callback:
    """Return a callback of `fit` that prints a line every ``every`` seconds or so.

    Args:
        steps: maximum number of steps; early stopping may end the run long before.
        name: of the run.
        every: seconds between lines.
        clock: returns the time in seconds.

    Example:
        >>> from types import SimpleNamespace
        >>> seconds = iter([0.0, 31.0])
        >>> speak = spoken_progress(500, "depth 2", clock=lambda: next(seconds))
        >>> for step in (0, 310):
        ...     _ = speak(SimpleNamespace(step=step, row={"train_loss": 0.5, "validation_rmse": None}))

    """
    first_step, last_step = 0, -1
    begin = last_line = 0.0

    def speak(progress: Progress) -> None:
        nonlocal first_step, last_step, begin, last_line
        now = clock()
        if last_step < 0 or progress.step <= last_step:  # a new run: the search, or the refit after it
            first_step, begin, last_line = progress.step, now, now
        elif now - last_line >= every:
            last_line = now
            rate = (progress.step - first_step) / (now - begin)
            say(_line(name, progress, steps, rate))
        last_step = progress.step

    return speak


def duration(seconds: float) -> str:
    """Return a duration in the units that people use.

    >>> [duration(seconds) for seconds in (0.26, 75, 7300)]
    ['0.3 s', '1 min 15 s', '2 h 1 min']
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {int(seconds) % 60} s"
    return f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def tensorboard_log(folder: Path | None, name: str) -> Iterator[list[Callback]]:
    """Yield the callbacks of `fit` that log to ``folder/name``; none without a folder."""
    if folder is None:
        yield []
        return
    log = _Log(folder / name)
    try:
        yield [log]
    finally:
        log.close()


def _line(name: str, progress: Progress, steps: int, rate: float) -> str:
    parts = [f"{name}: step {progress.step:,}", f"{rate:,.3g} steps/s"]
    if progress.step <= steps:  # a later phase has steps of its own
        parts[0] += f" of at most {steps:,}"
        parts.append(f"at most {duration((steps - progress.step) / rate)} left")
    loss, validation = progress.row["train_loss"], progress.row["validation_rmse"]
    parts.append(f"train loss {loss:.4g}")
    if validation is not None:
        parts.append(f"validation RMSE {validation:.4f}")
    return ", ".join(parts)


class _Log:
    """Writes every evaluation of the search and of the refit on all entries."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._part = ""
        self._first: list[Any] = []  # row of the current run
        self._writer: Any = None

    def __call__(self, progress: Progress) -> None:
        # Only the search has validation entries, if there are any.
        if progress.row["validation_rmse"] is not None:
            part = "search"
        else:
            part = "refit" if self._part in ("search", "refit") else "train"
        # A resumed run is logged from its start, over what was logged before the interruption.
        is_new = not self._first or progress.rows[0] is not self._first[0]
        rows = progress.rows if is_new else [progress.row]
        self._first = list(progress.rows[:1])
        shift = progress.step - int(progress.rows[-1]["step"] or 0)
        # If the width is searched for, every width starts a new search.
        if part != self._part or (is_new and not shift):
            self._begin(part, shift)
        for row in rows:
            step = progress.step if row is progress.row else int(row["step"] or 0) + shift
            for name, value in row.items():
                if name != "step" and value is not None:
                    self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _begin(self, part: str, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.close()
        self._part = part
        # Hide what an interrupted run logged beyond its checkpoint.
        self._writer = SummaryWriter(str(self._folder / part), purge_step=step)
