"""Names and columns of tables in memory: frames of pandas and polars, tables of Arrow, dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from dmf_fast.data.errors import DataError


class Columns(NamedTuple):
    """The names of the columns of a table, and the function that returns the one at a position."""

    names: list[str]
    column: Callable[[int], Any]


def columns_of(data: Any) -> Columns | None:
    """Return the columns of a table of any kind, or None where ``data`` is something else.

    Tables are frames of pandas, whose named levels of the index count as columns, and of polars, lazy or not;
    tables, batches, readers and datasets of pyarrow, and what gives Arrow a stream; structured arrays; and
    dictionaries of columns. Raises a `DataError` where a table cannot be read.

    >>> columns = columns_of({"user": ["ann"], "item": [7]})
    >>> columns.names, columns.column(1)
    (['user', 'item'], [7])
    """
    data = collected(data)
    if hasattr(data, "tocoo"):
        return None
    if isinstance(data, dict):
        return Columns([str(name) for name in data], list(data.values()).__getitem__)
    if isinstance(data, pa.Table):
        return Columns(data.column_names, data.column)
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        return _of_pandas(data)
    if hasattr(data, "to_series") and hasattr(data, "columns"):
        return Columns(list(data.columns), data.to_series)
    return None


def collected(data: Any) -> Any:
    """Return ``data`` as a frame of pandas or polars, a table of Arrow or a dictionary, where it is a table.

    Others are returned as they are.
    """
    if hasattr(data, "tocoo"):  # some are dictionaries as well
        return data
    if isinstance(data, Mapping):
        return dict(data)
    names = getattr(getattr(data, "dtype", None), "names", None)
    if names:
        return {name: data[name] for name in names}
    try:
        if isinstance(data, pa.RecordBatch):
            return pa.Table.from_batches([data])
        if hasattr(data, "collect_schema") and not hasattr(data, "to_series"):  # a lazy frame of polars
            return data.collect()
        if hasattr(data, "to_table") and not hasattr(data, "shape"):  # a dataset of pyarrow
            return data.to_table()
        if hasattr(data, "__arrow_c_stream__") and not hasattr(data, "__len__"):
            return pa.table(data)
    except (pa.ArrowException, OSError, TypeError, ValueError) as error:
        raise DataError(f"data cannot be read as a table ({error}); collect it first") from error
    return data


def _of_pandas(frame: Any) -> Columns:
    names = [str(name) for name in frame.columns]
    levels = [
        level for level, name in enumerate(frame.index.names) if name is not None and str(name) not in names
    ]

    def column(position: int) -> Any:
        if position < len(names):
            return frame.iloc[:, position]
        return frame.index.get_level_values(levels[position - len(names)])

    return Columns(names + [str(frame.index.names[level]) for level in levels], column)
