"""The error that every unreadable or malformed file ends in."""

from __future__ import annotations


class DataError(ValueError):
    """A file cannot be used: the message names the file, the place, what was expected and what to do."""
