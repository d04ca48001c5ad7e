"""Checks of options, whose errors are sentences."""

from __future__ import annotations

from operator import index


def check_whole_number(name: str, value: int, *, least: int, most: int | None = None) -> None:
    """Raise a `TypeError` where ``value`` is no integer, a `ValueError` where it is out of range.

    >>> check_whole_number("steps", 3, least=0)
    """
    try:
        index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, but {value!r} came.") from None
    if value < least:
        raise ValueError(f"{name} must be at least {least}, but {value} came.")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most}, but {value} came.")
