"""Standard output and error: safe to print on a terminal, and robust against closed or full streams."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress

import click

from dmf_fast.checks import printable

_LONGEST_LINE = 4000
_silent = False


def keep_silent(silent: bool) -> None:
    """Print nothing on standard error from now on: of several processes, only one prints."""
    global _silent
    _silent = silent


def say(text: str, *, quiet: bool = False) -> None:
    """Print lines on standard error unless ``quiet``, without control characters and cut to a maximum length.

    Errors are ignored: a job continues if nobody reads its messages.
    """
    if not (quiet or _silent):
        with suppress(OSError):
            click.echo(shown(text), err=True)


def shown(text: str) -> str:
    r"""Return lines of text that are safe to print on a terminal.

    >>> print(shown("red\x1b[31m\nand more"))
    red\x1b[31m
    and more
    """
    lines = (printable(line) for line in text.split("\n"))
    return "\n".join(
        line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}… ({len(line):,} characters)"
        for line in lines
    )


def prepare_streams() -> None:
    """Make sure that standard output and error exist; printing to a closed standard output is an error."""
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def close_streams(code: int) -> int:
    """Flush the streams and return the exit code, or another one if that failed."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # Python flushes again at exit, and would report the error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:
            return code or 1
        say(f"Error: the output cannot be printed ({error.strerror})", quiet=code != 0)
        return code or 2
    with suppress(OSError):
        sys.stderr.flush()
    return code
