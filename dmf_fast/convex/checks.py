"""Checks of numbers, whose errors are sentences."""

from __future__ import annotations

import math
from numbers import Real

from dmf_fast.training.checks import whole_number


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


def _number(name: str, value: object) -> float:
    # Python counts True as a number; here it is a slip.
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, but {value!r} came.")
    return float(value)
