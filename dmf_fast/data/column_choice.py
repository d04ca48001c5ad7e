"""Chooses the columns of a table that hold the row ids, column ids, values and times."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

from dmf_fast.checks import printable
from dmf_fast.data.errors import DataError, shown

ROLES = ("row (user)", "column (item)", "value (rating)", "time")
_EXAMPLE = ("user", "item", "rating", "time")
_MOST_NAMES, _LONGEST_NAME = 20, 60

_KNOWN_NAMES = (
    {"user", "userid", "users", "row", "rowid", "rows", "customer", "customerid", "reviewer", "reviewerid"},
    {"item", "itemid", "items", "movie", "movieid", "column", "columnid", "columns", "col", "product"}
    | {"productid", "book", "bookid", "isbn", "track", "trackid", "song", "songid", "asin"},
    {"rating", "ratings", "value", "values", "score", "stars", "bookrating", "overall"},
    {"timestamp", "time", "times", "date", "datetime", "ratingdate", "ratingtime", "reviewdate"}
    | {"reviewtime", "unixreviewtime", "ratedat", "createdat"},
)


def are_known(names: Sequence[str], count: int) -> bool:
    """Return whether each of the ``count`` needed columns has a well-known name among ``names``.

    >>> are_known(["userId", "movieId", "rating"], 3), are_known(["viewer", "film"], 2)
    (True, False)
    """
    return all(_of_role(names, role) for role in range(count))


def is_id_name(name: str) -> bool:
    """Return whether ``name`` is a well-known one of a column with row ids or column ids.

    >>> is_id_name("movieId"), is_id_name("rating")
    (True, False)
    """
    return any(_of_role([name], role) for role in (0, 1))


def choose_columns(
    table: str, names: Sequence[str] | None, width: int, columns: Sequence[str] | None, count: int
) -> list[int]:
    """Return the positions of the ``count`` needed columns among the ``width`` columns of a table.

    These are, in this order, row ids, column ids, values and times. ``columns`` picks them by name, or by
    position counted from 1. Without it, they are recognized by well-known names, or taken in this order if
    the table has no ``names``. ``table`` is its name in errors.
    """
    if columns is not None:
        return _picked(table, names, width, columns, count)
    if width < count == len(ROLES):
        raise DataError(f"{table}: {_columns(width)} found, but times need a fourth one, as for --split time")
    if width < count:
        raise DataError(
            f"{table}: {_columns(width)} found, but at least {count} were expected "
            f"({', '.join(ROLES[:count])}); check the file, or its separator"
        )
    if names is not None:
        return _recognized(table, names, count)
    if width > 4:
        raise DataError(
            f"{table}: {_columns(width)} and no header; choose them by their positions, "
            f"such as --columns {','.join('1234'[:count])}"
        )
    return list(range(count))


def _picked(
    table: str, names: Sequence[str] | None, width: int, columns: Sequence[str], count: int
) -> list[int]:
    if len(columns) != count:
        raise DataError(
            f"{table}: {_columns(len(columns))} picked, but {count} are needed "
            f"({', '.join(ROLES[:count])}); name exactly {count}, such as "
            f"--columns {','.join(_EXAMPLE[:count])}"
        )
    if len(set(columns)) != count:
        raise DataError(f"{table}: --columns names the same column twice; name {count} different ones")
    known = list(names) if names is not None else []
    return [_position(table, known, width, column) for column in columns]


def _position(table: str, names: list[str], width: int, column: str) -> int:
    if names.count(column) > 1:
        raise DataError(
            f"{table}: {names.count(column)} columns are called {shown(column)}; pick one by its position, "
            f"from 1 to {width}"
        )
    if column in names:
        return names.index(column)
    if column.isdecimal() and len(column) < 10 and 1 <= int(column) <= width:
        return int(column) - 1
    there = _listed(names) if names else f"{_columns(width)} without names (use positions from 1 to {width})"
    raise DataError(f"{table}: there is no column {shown(column)}; it has {there}")


def _recognized(table: str, names: Sequence[str], count: int) -> list[int]:
    positions = [_of_role(names, role) for role in range(count)]
    missing = [role for role, found in zip(ROLES, positions, strict=False) if not found]
    if missing == ["time"]:
        raise DataError(
            f"{table}: no column is recognized as time, as --split time needs, among {_listed(names)}; "
            f"choose it, such as --columns {','.join(_EXAMPLE)}"
        )
    if missing:
        raise DataError(
            f"{table}: no column is recognized as {' or '.join(missing)} among {_listed(names)}; "
            f"choose them, such as --columns {','.join(_EXAMPLE[:count])}"
        )
    for role, found in zip(ROLES, positions, strict=False):
        if len(found) > 1:
            called = " and ".join(shown(names[position]) for position in found[:3])
            warnings.warn(
                f"{table}: {called} may be the {role}; the first is taken. Choose with --columns.",
                UserWarning,
                stacklevel=2,
            )
    return [found[0] for found in positions]


def _of_role(names: Sequence[str], role: int) -> list[int]:
    """Return the positions of the well-known names for a role."""
    plain = (re.sub(r"[^a-z]", "", name.lower()) for name in names)
    return [position for position, name in enumerate(plain) if name in _KNOWN_NAMES[role]]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(printable(name[:_LONGEST_NAME]) for name in names[:_MOST_NAMES]) + more


def _columns(count: int) -> str:
    return "1 column" if count == 1 else f"{count} columns"
