"""Checks of numbers and of the fields of options, whose errors are sentences."""

from __future__ import annotations

import math
from numbers import Real
from operator import index


def settle_whole_number(options: object, name: str, *, least: int, most: int | None = None) -> None:
    """Check a field of frozen options and keep it as a plain int: JSON does not take NumPy's.

    None stays where it is the default. Raises a `TypeError` where the field is no integer, a `ValueError`
    where it is out of range.

    >>> from types import SimpleNamespace
    >>> settle_whole_number(SimpleNamespace(steps=3), "steps", least=0)
    """
    value = getattr(options, name)
    if value is None and _is_optional(options, name):
        return
    whole = whole_number(name, value, least=least, most=most)
    object.__setattr__(options, name, whole)


def whole_number(name: str, value: object, *, least: int, most: int | None = None) -> int:
    """Return ``value`` as a plain int, or raise what `settle_whole_number` raises.

    >>> whole_number("steps", 3, least=0)
    3
    """
    try:
        whole = index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be a whole number, but {value!r} came.") from None
    if whole < least:
        raise ValueError(f"{name} must be at least {least}, but {value} came.")
    if most is not None and whole > most:
        raise ValueError(f"{name} must be at most {most}, but {value} came.")
    return whole


def number_above_zero(name: str, value: object) -> float:
    """Return ``value`` as a plain float.

    Raises a `TypeError` where it is no number, a `ValueError` where it is not finite or not above 0.

    >>> number_above_zero("tolerance", 1)
    1.0
    """
    number = _number(name, value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be a finite number above 0, but {value} came.")
    return number


def number_of_at_least_zero(name: str, value: object) -> float:
    """Return ``value`` as a plain float, or raise as `number_above_zero`, with 0 allowed.

    >>> number_of_at_least_zero("epsilon", 0)
    0.0
    """
    number = _number(name, value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name} must be a finite number of at least 0, but {value} came.")
    return number


def count_of_at_least_one(name: str, value: object) -> int:
    """Return ``value`` as a plain int, or raise as `number_above_zero`, also where it is not whole.

    >>> count_of_at_least_one("iterations", 3)
    3
    """
    if isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, but {value} came.")
    return whole_number(name, value, least=1)


def settle_not_negative(options: object, *names: str) -> None:
    """Check fields of frozen options for finite numbers of at least 0, and keep them as plain floats.

    >>> from types import SimpleNamespace
    >>> settle_not_negative(SimpleNamespace(lr=0.1), "lr")
    """
    for name in names:
        optional = _is_optional(options, name)
        if optional and getattr(options, name) is None:
            continue
        value = _settle_number(options, name)
        if not (math.isfinite(value) and value >= 0):
            wanted = "at least 0, or None" if optional else "at least 0"
            raise ValueError(f"{name} must be a finite number of {wanted}, but {value} came.")


def settle_decays(options: object, *names: str) -> None:
    """Check fields of frozen options for numbers from 0 to below 1, and keep them as plain floats.

    >>> from types import SimpleNamespace
    >>> settle_decays(SimpleNamespace(momentum=0.9), "momentum")
    """
    for name in names:
        value = _settle_number(options, name)
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be from 0 to below 1, but {value} came.")


def _settle_number(options: object, name: str) -> float:
    value = getattr(options, name)
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, but {value!r} came.")
    number = float(value)
    object.__setattr__(options, name, number)
    return number


def _is_optional(options: object, name: str) -> bool:
    return getattr(type(options), name, ...) is None


def _number(name: str, value: object) -> float:
    # Python counts True as a number; here it is a slip.
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, but {value!r} came.")
    return float(value)
