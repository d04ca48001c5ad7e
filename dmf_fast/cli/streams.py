"""What reaches a terminal: sentences on standard error, and streams that may be closed or full."""

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
    """Have nothing said from now on: of several processes only one speaks."""
    global _silent
    _silent = silent


def say(text: str, *, quiet: bool = False) -> None:
    """Print lines on standard error, unless it should be quiet; without control characters, and never long.

    Whether anybody reads them does not matter to a job.
    """
    if not (quiet or _silent):
        with suppress(OSError):
            click.echo(shown(text), err=True)


def shown(text: str) -> str:
    r"""Return lines of text as a terminal may get them.

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
    """Have standard output and error, whatever they were: what is printed where nobody reads is an error."""
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def close_streams(code: int) -> int:
    """Print what is left to print and return the exit code, another one where that was not possible."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # Python flushes again when it ends, and would say so.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:
            return code or 1
        say(f"Error: the output cannot be printed ({error.strerror})", quiet=code != 0)
        return code or 2
    with suppress(OSError):
        sys.stderr.flush()
    return code
