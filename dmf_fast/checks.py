"""Checks of single values, with error messages of one form."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from operator import index


def whole_number(name: str, value: object, *, least: int | None = None, most: int | None = None) -> int:
    """Return ``value`` as a plain int, since JSON does not accept NumPy integers.

    Raises a `TypeError` if it is not a whole number and a `ValueError` if it is out of range.

    >>> whole_number("steps", 3, least=0)
    3
    """
    # In Python, bool is a subclass of int; here a bool is a mistake.
    if isinstance(value, bool):
        raise TypeError(f"`{name}` must be a whole number, got {value!r}")
    try:
        whole = index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"`{name}` must be a whole number, got {value!r}") from None
    _check_range(name, whole, least=least, most=most)
    return whole


def real_number(
    name: str,
    value: object,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> float:
    """Return ``value`` as a plain float; it must be finite.

    Raises a `TypeError` if it is not a number and a `ValueError` if it is not finite or out of range.

    >>> real_number("tolerance", 1, above=0)
    1.0
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number, got {value!r}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"`{name}` must be finite, got {value}")
    _check_range(name, number, least, above, most, below)
    return number


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return a question with the most similar of ``words``, or "" if none is similar.

    >>> did_you_mean("hiden", ["depth", "hidden"])
    'did you mean hidden?'
    """
    import difflib  # here, as only errors need it

    near = difflib.get_close_matches(word, list(words), n=3)
    return f"did you mean {' or '.join(near)}?" if near else ""


def true_or_false(name: str, value: object) -> bool:
    """Return ``value`` as a plain bool; raise a `TypeError` if it is not a bool.

    >>> true_or_false("refit", True)
    True
    """
    if not (isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool"):
        raise TypeError(f"`{name}` must be True or False, got {value!r}")
    return bool(value)


def one_of(name: str, value: object, choices: Iterable[str]) -> str:
    """Return ``value``; raise a `ValueError` if it is not one of the ``choices``.

    >>> one_of("reduction", "sum", ("mean", "sum"))
    'sum'
    """
    choices = tuple(choices)
    if not (isinstance(value, str) and value in choices):
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {value!r}")
    return value


def range_text(
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> str:
    """Return the bounds of a number in words.

    >>> range_text(least=0, below=1)
    'at least 0 and below 1'
    """
    bounds = {"at least": least, "above": above, "at most": most, "below": below}
    return " and ".join(f"{word} {bound}" for word, bound in bounds.items() if bound is not None)


def _check_range(
    name: str,
    number: float,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> None:
    """Raise a `ValueError` that names the bound which ``number`` violates."""
    for bound, beyond in (
        ({"least": least}, least is not None and number < least),
        ({"above": above}, above is not None and number <= above),
        ({"most": most}, most is not None and number > most),
        ({"below": below}, below is not None and number >= below),
    ):
        if beyond:
            raise ValueError(f"`{name}` must be {range_text(**bound)}, got {number}")


def printable(value: object) -> str:
    r"""Return ``value`` as text with control characters escaped, so that it is safe to print to a terminal.

    >>> printable("tab\tred\x1b[31m")
    'tab\\tred\\x1b[31m'
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def shortened(text: str, most: int = 100) -> str:
    """Return ``text``, cut to its first ``most`` characters and an ellipsis if it is longer.

    >>> shortened("abc"), shortened("abcd", 3)
    ('abc', 'abc…')
    """
    return text if len(text) <= most else text[:most] + "…"
