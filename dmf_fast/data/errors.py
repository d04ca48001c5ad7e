"""The error for every unreadable or malformed file."""

from __future__ import annotations

_LONGEST_SHOWN = 80


class DataError(ValueError):
    """Data cannot be used: the message names the file, the place, what was expected and what to do."""


def shown(text: str) -> str:
    r"""Return text from a file as errors show it: quoted, on one line, and shortened.

    >>> print(shown("red" + chr(27)), len(shown("a" * 1000)))
    'red\x1b' 83
    """
    return repr(text) if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]!r}…"


class EmptyFileError(DataError):
    """A file holds nothing, or only a header: an error only if no other file holds entries."""
