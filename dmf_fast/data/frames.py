"""Tables in memory: columns by name, or record batches of anything that exports an Arrow stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyarrow as pa

from dmf_fast.data.errors import DataError


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
    with _readable():
        select = _projection(data)
        if select is not None:
            names, open_columns = select
            return ArrowStream(names, lambda chosen: _read(lambda: open_columns([names[k] for k in chosen])))
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


def _projection(data: Any) -> tuple[list[str], Callable[[list[str]], pa.RecordBatchReader]] | None:
    """Return the names of a lazy table and a function that computes some columns; None for other tables."""
    if hasattr(data, "collect_schema") and not hasattr(data, "__arrow_c_stream__"):  # a lazy polars frame
        names = list(data.collect_schema().names())
        return names, lambda chosen: _exported(data.select(chosen).collect(engine="streaming"))
    if hasattr(data, "scanner") and hasattr(data, "schema"):  # a pyarrow dataset
        return list(data.schema.names), lambda chosen: data.scanner(columns=chosen).to_reader()
    return None


def _reader(data: Any) -> pa.RecordBatchReader | None:
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
    with _readable():
        reader = opened()
    positions = range(len(reader.schema)) if chosen is None else chosen
    schema = pa.schema([reader.schema.field(position) for position in positions])
    return schema, _batches(reader, positions, schema)


def _batches(
    reader: pa.RecordBatchReader, positions: Sequence[int], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    while True:
        with _readable():
            batch = next(reader, None)
        if batch is None:
            return
        yield pa.RecordBatch.from_arrays([batch.column(position) for position in positions], schema=schema)


@contextmanager
def _readable() -> Iterator[None]:
    """Raise a `DataError` if a table is unreadable: each library has errors of its own."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"data cannot be read as a table ({error}); collect it first") from error


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
