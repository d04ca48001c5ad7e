"""Tables in memory: columns by name, or record batches of anything that exports an Arrow stream."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import pyarrow as pa

from dmf_fast.data.errors import DataError, shown
from dmf_fast.files.reading import short_reason

_TRACEBACK = "Traceback (most recent call last):"


class Columns(NamedTuple):
    """The names of the columns of a table, and the function that returns the column at a position."""

    names: list[str]
    column: Callable[[int], Any]


class ArrowStream(NamedTuple):
    """The names of the columns of a table, and the function that reads the columns at some positions.

    ``read`` returns a schema and the record batches. It may be called only once.
    """

    names: list[str]
    read: Callable[[Sequence[int]], tuple[pa.Schema, Iterator[pa.RecordBatch]]]


def columns_of(data: Any) -> Columns | None:
    """Return the columns of a table that holds Python or NumPy values, or None if ``data`` is not one.

    Such tables are pandas data frames, whose named index levels count as columns, structured arrays, and
    dictionaries of columns.

    >>> columns = columns_of({"user": ["ann"], "item": [7]})
    >>> columns.names, columns.column(1)
    (['user', 'item'], [7])
    """
    if hasattr(data, "tocoo"):  # SciPy's dictionary of keys is also a mapping
        return None
    if _is_pandas(data):
        return _of_pandas(data)
    data = _as_dictionary(data)
    if isinstance(data, dict):
        return Columns([str(name) for name in data], list(data.values()).__getitem__)
    return None


def arrow_stream(data: Any) -> ArrowStream | None:
    """Return the record batches of a table that Arrow can stream, or None if ``data`` is not one.

    Such tables export the Arrow PyCapsule interface (``__arrow_c_stream__``), as those of pyarrow, polars and
    DuckDB do, or make an object that does: lazy polars frames, pyarrow datasets and scanners, and DuckDB
    query results. Lazy frames and datasets compute the requested columns only.

    Raises:
        DataError: the stream cannot be opened.

    Example:
        >>> stream = arrow_stream(pa.table({"user": ["ann"], "item": [7]}))
        >>> schema, batches = stream.read([1])
        >>> schema.names, [batch.to_pydict() for batch in batches]
        (['item'], [{'item': [7]}])

    """
    if _is_pandas(data):  # Arrow loses its index and its columns of objects
        return None
    with _opening():
        select = _projection(data)
        if select is not None:
            names, open_columns = select
            return ArrowStream(names, lambda chosen: _read(lambda: open_columns(chosen)))
        reader = _reader(data)
    if reader is None:
        return None
    return ArrowStream(reader.schema.names, lambda chosen: _read(lambda: reader, chosen))


def collected(data: Any) -> Any:
    """Return a table as a pandas data frame, an Arrow table or a dictionary of columns; others unchanged."""
    if hasattr(data, "tocoo") or _is_pandas(data) or isinstance(data, pa.Table):
        return data
    stream = arrow_stream(data)
    if stream is None:
        return _as_dictionary(data)
    schema, batches = stream.read(range(len(stream.names)))
    return pa.Table.from_batches(batches, schema)


def _projection(data: Any) -> tuple[list[str], Callable[[Sequence[int]], pa.RecordBatchReader]] | None:
    """Return the names of a lazy table and a function that computes some columns; None for other tables."""
    if hasattr(data, "collect_schema") and not hasattr(data, "__arrow_c_stream__"):  # a lazy polars frame
        names = list(data.collect_schema().names())
        return names, lambda chosen: _exported(_computed(data, names, chosen))
    if hasattr(data, "scanner") and hasattr(data, "schema"):  # a pyarrow dataset
        names = list(data.schema.names)
        _refuse_repeated(names)
        return names, lambda chosen: data.scanner(columns=[names[k] for k in chosen]).to_reader()
    return None


def _computed(frame: Any, names: list[str], chosen: Sequence[int]) -> Any:
    """Return some columns of a lazy polars frame.

    They are renamed for the selection, which takes names such as ``*`` and ``^user.*$`` for patterns.
    """
    numbered = frame.rename({name: str(k) for k, name in enumerate(names)})
    selected = numbered.select([str(k) for k in chosen])
    return selected.rename({str(k): names[k] for k in chosen}).collect(engine="streaming")


def _reader(data: Any) -> pa.RecordBatchReader | None:
    if isinstance(data, pa.RecordBatchReader):  # an export would turn its errors into text
        return data
    if hasattr(data, "__arrow_c_stream__"):
        return _exported(data)
    for name in ("to_reader", "to_arrow_reader"):  # a pyarrow scanner, a DuckDB query result
        if hasattr(data, name):
            return getattr(data, name)()
    return None


def _exported(data: Any) -> pa.RecordBatchReader:
    _refuse_objects(data)
    return pa.RecordBatchReader.from_stream(data)


def _read(
    opened: Callable[[], pa.RecordBatchReader], chosen: Sequence[int] | None = None
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Return the schema and the record batches of all columns, or of the chosen ones."""
    with _opening():
        reader = opened()
    positions = range(len(reader.schema)) if chosen is None else chosen
    schema = pa.schema([reader.schema.field(position) for position in positions])
    return schema, _batches(reader, positions, schema)


def _batches(
    reader: pa.RecordBatchReader, positions: Sequence[int], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    rows = 0
    while True:
        with _readable(f"after row {rows}", "read it from its source again"):
            batch = next(reader, None)
        if batch is None:
            return
        rows += len(batch)
        yield pa.RecordBatch.from_arrays([batch.column(position) for position in positions], schema=schema)


def _opening() -> AbstractContextManager[None]:
    return _readable("as a table", "pass a data frame or a pyarrow table")


@contextmanager
def _readable(how: str, advice: str) -> Iterator[None]:
    """Raise a `DataError` if a table is unreadable: each library has errors of its own.

    An exception in Python that has crossed Arrow's C interface is a text that ends with its traceback.
    """
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        _, traceback, end = str(error).rpartition(_TRACEBACK)
        raised = "".join(re.findall(r"(?ms)^\S.*", end))  # the frames before it are indented
        if traceback and raised.strip() == "KeyboardInterrupt":
            raise KeyboardInterrupt from error
        reason = short_reason(Exception(raised) if traceback else error)
        raise DataError(f"data cannot be read {how} ({reason}); {advice}") from error


def _refuse_repeated(names: list[str]) -> None:
    """Refuse a dataset with columns of the same name: Arrow cannot read any of its columns."""
    for name in names:
        if names.count(name) > 1:
            raise DataError(
                f"data is a dataset with {names.count(name)} columns called {shown(name)}, which pyarrow "
                "cannot read; rename them, or pass a table"
            )


def _refuse_objects(data: Any) -> None:
    """Refuse polars columns of Python objects, which Arrow exports as their addresses."""
    schema = getattr(data, "schema", None)
    for name, dtype in schema.items() if isinstance(schema, Mapping) else ():
        if str(dtype) == "Object":
            raise DataError(
                f"data has a column of Python objects, {name!r}, which Arrow cannot hold; convert it to "
                "numbers or text, or pass a dictionary of lists"
            )


def _is_pandas(data: Any) -> bool:
    return hasattr(data, "iloc") and hasattr(data, "columns")


def _as_dictionary(data: Any) -> Any:
    """Return a mapping or a structured array as a dictionary of columns; others unchanged."""
    if isinstance(data, Mapping):
        return dict(data)
    names = getattr(getattr(data, "dtype", None), "names", None)
    return {name: data[name] for name in names} if names else data


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
