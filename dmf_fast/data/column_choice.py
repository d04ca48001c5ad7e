"""Which columns of a table hold the row ids, column ids, values and times."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dmf_fast.data.errors import DataError

ROLES = ("row (user)", "column (item)", "value (rating)", "time")
_EXAMPLE = ("user", "item", "rating", "time")

_KNOWN_NAMES = (
    {"user", "userid", "users", "row", "rowid", "rows", "customer", "customerid", "reviewer", "reviewerid"},
    {"item", "itemid", "items", "movie", "movieid", "column", "columnid", "columns", "col", "product"}
    | {"productid", "book", "bookid", "isbn", "track", "trackid", "song", "songid", "asin"},
    {"rating", "ratings", "value", "values", "score", "stars", "bookrating", "overall"},
    {"timestamp", "time", "times", "date", "datetime", "ratingdate", "ratingtime", "reviewdate"}
    | {"reviewtime", "unixreviewtime", "ratedat", "createdat"},
)


def choose_columns(
    table: str, names: Sequence[str] | None, width: int, columns: Sequence[str] | None, count: int
) -> list[int]:
    """Return the positions of the ``count`` needed columns among the ``width`` ones of a table.

    They are, in this order, row ids, column ids, values and times. ``columns`` picks by name, or by position
    counted from 1; without it well-known names are looked for, and a table without ``names`` is read in
    that order. ``table`` is its name in errors.
    """
    if columns is not None:
        return _picked(table, names, width, columns, count)
    if width < count:
        raise DataError(
            f"{table}: {_columns(width)} found where at least {count} were expected "
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
            f"{table}: {_columns(len(columns))} picked where {count} are needed "
            f"({', '.join(ROLES[:count])}); name exactly {count}, such as "
            f"--columns {','.join(_EXAMPLE[:count])}"
        )
    if len(set(columns)) != count:
        raise DataError(f"{table}: --columns names the same column twice; name {count} different ones")
    known = list(names) if names is not None else []
    return [_position(table, known, width, column) for column in columns]


def _position(table: str, names: list[str], width: int, column: str) -> int:
    if column in names:
        return names.index(column)
    if column.isdecimal() and 1 <= int(column) <= width:
        return int(column) - 1
    there = (
        ", ".join(names) if names else f"{_columns(width)} without names (use positions from 1 to {width})"
    )
    raise DataError(f"{table}: there is no column {column!r}; the file has {there}")


def _recognized(table: str, names: Sequence[str], count: int) -> list[int]:
    plain = [re.sub(r"[^a-z]", "", name.lower()) for name in names]
    positions = [
        next((position for position, name in enumerate(plain) if name in known), None)
        for known in _KNOWN_NAMES[:count]
    ]
    missing = [role for role, position in zip(ROLES, positions, strict=False) if position is None]
    if missing:
        raise DataError(
            f"{table}: no column is recognized as {' or '.join(missing)} among {', '.join(names)}; "
            f"choose them, such as --columns {','.join(_EXAMPLE[:count])}"
        )
    return [position for position in positions if position is not None]


def _columns(count: int) -> str:
    return "1 column" if count == 1 else f"{count} columns"
