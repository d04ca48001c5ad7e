"""Ratings from memory: data frames, columns, sparse and dense matrices."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from dmf_fast.data.arrow_table import record_batches, resized
from dmf_fast.data.arrow_types import decoded_type, is_number, is_text
from dmf_fast.data.bad_rows import BadRowCollector
from dmf_fast.data.chunks import ROWS_A_CHUNK, Chunk
from dmf_fast.data.column_choice import ROLES, choose_columns
from dmf_fast.data.errors import DataError
from dmf_fast.data.frames import ArrowStream, arrow_stream, columns_of
from dmf_fast.data.id_map import IdMap
from dmf_fast.data.matrix_file import matrix_chunks, stored_entries
from dmf_fast.data.object_id_map import ObjectIdMap
from dmf_fast.data.options import ReadOptions
from dmf_fast.data.ratings import Ratings
from dmf_fast.data.raw_ids import as_list, id_array
from dmf_fast.data.reader import collected_ratings
from dmf_fast.observations.conversion import torch_sparse_entries

_NAME = "data"
_MOST_EMPTY, _MOST_EMPTY_OF_ENTRY = 1 << 24, 16


def as_ratings(data: Any, options: ReadOptions = ReadOptions()) -> Ratings:  # noqa: B008
    """Return ratings from memory, mapped like those of a file.

    ``data`` is one of

    * a table with columns as in a file: anything that exports an Arrow stream (``__arrow_c_stream__``), such
      as a pyarrow table or reader, a polars data frame or a DuckDB relation; a lazy polars frame, a pyarrow
      dataset or a DuckDB query result; a pandas data frame, whose named index levels count as columns; a
      structured array; a dictionary of columns;
    * a tuple ``(row ids, column ids, values)`` or ``(row ids, column ids, values, times)`` of sequences, each
      of shape ``(nnz,)``;
    * a sparse matrix of SciPy or torch, whose stored entries count, zeros included, or an array of shape
      ``(m, n)`` with NaN or a mask where a value is unknown: the ids are the indices ``0 … m - 1`` and
      ``0 … n - 1``, including those of empty rows and columns;
    * a pandas series of values with an index of two levels, row ids and column ids.

    Arrow streams are read once, batch by batch, and never held as a whole, unless their ids are neither
    numbers nor text. Ids may be of any hashable type; ids other than integers and text cannot be saved. Rows
    without an id or a finite value are bad rows.

    Args:
        data: the ratings, in one of these forms: columns of shape ``(nnz,)`` or a matrix of shape ``(m, n)``.
        options: which columns to read, and how; see `ReadOptions`.

    Returns:
        The ratings, by index, in the order of ``data``.

    Raises:
        DataError: ``data`` is not one of these, or cannot be read, or as for `read_ratings`.

    Example:
        >>> table = pa.table({"user": ["bob", "ann"], "item": [7, 9], "rating": [4.5, 3.0]})
        >>> as_ratings(table).row_ids.ids.tolist()
        ['ann', 'bob']
        >>> as_ratings(([(1, "a"), (0, "b")], ["x", "y"], [1.0, 2.0])).row_ids.ids.tolist()
        [(0, 'b'), (1, 'a')]

    """
    if isinstance(data, (str, os.PathLike)):
        raise DataError(f"{_NAME} is the path {str(data)!r}; use read_ratings for files")
    if isinstance(data, tuple):
        return _of_columns(list(data), options)
    if getattr(getattr(data, "index", None), "nlevels", 1) == 2 and not hasattr(data, "columns"):
        levels = [data.index.get_level_values(level) for level in (0, 1)]
        return _of_columns([*levels, data.to_numpy()], options)
    stream = arrow_stream(data)
    if stream is not None:
        return _of_stream(stream, options)
    table = columns_of(data)
    if table is not None:
        return _of_columns([table.column(position) for position in _chosen(table.names, options)], options)
    return _of_matrix(data, options)


def _chosen(names: list[str], options: ReadOptions) -> list[int]:
    """Return the positions of the wanted columns of a table."""
    count = 4 if options.times else 3
    try:
        return choose_columns(_NAME, names, len(names), options.columns, count)
    except DataError as error:
        if options.columns is not None:
            raise
        raise DataError(
            f"{error}. A pivoted frame, which is the matrix itself, is read as frame.to_numpy(), or with its "
            "ids as frame.stack() in pandas and frame.unpivot(index=…) in polars"
        ) from None


def _of_stream(stream: ArrowStream, options: ReadOptions) -> Ratings:
    schema, batches = stream.read(_chosen(stream.names, options))
    kinds = [decoded_type(kind) for kind in schema.types[:2]]
    if not all(is_number(kind) or is_text(kind) or pa.types.is_null(kind) for kind in kinds):
        return _of_columns(pa.Table.from_batches(batches, schema).columns, options)
    return _of_batches(resized(batches, ROWS_A_CHUNK), options)


def _of_batches(batches: Iterable[pa.RecordBatch], options: ReadOptions) -> Ratings:
    """Return the ratings of batches with the wanted columns; they are read once."""

    def chunks(options: ReadOptions, count: int, bad_rows: BadRowCollector) -> Iterator[Chunk]:
        yield from record_batches(_NAME, batches, options, bad_rows)
        bad_rows.finish_file()

    return collected_ratings(chunks, options)


def _of_columns(columns: list[Any], options: ReadOptions) -> Ratings:
    if len(columns) not in (3, 4):
        raise DataError(
            f"{_NAME} is a tuple of {len(columns)} sequences: 3 (row ids, column ids, values) or 4 (with "
            "times) were expected"
        )
    if options.times and len(columns) == 3:
        raise DataError(f"{_NAME} is a tuple without times: give them as a fourth sequence")
    columns = [_sequence(role, column) for role, column in enumerate(columns)]
    lengths = {role: len(column) for role, column in zip(ROLES, columns, strict=False)}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{length} for {role}" for role, length in lengths.items())
        raise DataError(f"{_NAME} must hold columns of the same length, got {found}")
    (rows, row_objects), (columns_, column_objects) = (_encoded(role, columns[role]) for role in (0, 1))
    numbers = [_array(role, column) for role, column in enumerate(columns[2:], start=2)]
    table = pa.table([rows, columns_, *numbers], names=list(ROLES[: len(columns)]))
    options = replace(options, columns=None, times=len(columns) == 4)
    ratings = _of_batches(table.to_batches(max_chunksize=ROWS_A_CHUNK), options)
    return replace(
        ratings,
        row_ids=_decoded(ratings.row_ids, row_objects),
        column_ids=_decoded(ratings.column_ids, column_objects),
    )


def _of_matrix(matrix: Any, options: ReadOptions) -> Ratings:
    if isinstance(matrix, np.ma.MaskedArray):
        matrix = np.ma.filled(matrix.astype(np.float64), np.nan)
    if isinstance(matrix, list) and matrix and isinstance(matrix[0], tuple):
        raise DataError(
            f"{_NAME} is a list of tuples, one per entry; pass their columns, as tuple(zip(*{_NAME}))"
        )
    if hasattr(matrix, "detach"):  # a tensor
        matrix = _of_tensor(matrix)
    if not hasattr(matrix, "tocoo"):
        try:
            matrix = np.asarray(matrix)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{_NAME} is a {type(matrix).__name__}: a data frame, a tuple of columns or a matrix was "
                "expected"
            ) from error
    entries = stored_entries(_NAME, matrix)
    most = max(_MOST_EMPTY, _MOST_EMPTY_OF_ENTRY * len(entries[2]))
    if max(matrix.shape) > most:
        raise DataError(
            f"{_NAME} has the shape {tuple(matrix.shape)}, where nearly all rows or columns are empty: at "
            f"most {most} of each were expected for its {len(entries[2])} entries; give these as a tuple "
            "(rows, columns, values)"
        )

    def chunks(options: ReadOptions, count: int, bad_rows: BadRowCollector) -> Iterator[Chunk]:
        yield from matrix_chunks(_NAME, entries, 0, options, count, bad_rows)
        bad_rows.finish_file()

    row_ids, column_ids = (IdMap(np.arange(size)) for size in matrix.shape)
    return collected_ratings(chunks, options).mapped_to(row_ids, column_ids)


def _of_tensor(tensor: Any) -> Any:
    """Return a dense tensor as an array, a sparse one as a matrix of SciPy."""
    from scipy.sparse import coo_array  # here, as it is slow to import

    tensor = tensor.detach().cpu()
    if str(tensor.layout) == "torch.strided":
        return (tensor.double() if tensor.is_floating_point() else tensor).numpy()
    try:
        *_, shape = entries = torch_sparse_entries(tensor)
    except (TypeError, ValueError) as error:
        raise DataError(f"{_NAME} is a tensor that cannot be read: {error}") from error
    rows, columns, values = (part.numpy() for part in entries[:3])
    return coo_array((values, (rows, columns)), shape=shape)


def _sequence(role: int, column: Any) -> Any:
    """Return a column that has a length and that Arrow can read."""
    if isinstance(column, Iterator):
        column = list(column)
    if hasattr(column, "detach"):  # a tensor
        column = column.detach().cpu().numpy()
    try:
        if isinstance(column, (str, bytes)):
            raise TypeError("text is no sequence of ids")
        len(column)
    except TypeError as error:
        raise DataError(
            f"{_NAME}: the {ROLES[role]} column must be a sequence, got {column!r:.80}"
        ) from error
    return column


def _array(role: int, column: Any) -> Any:
    if isinstance(column, (pa.Array, pa.ChunkedArray)):
        return column
    try:
        return pa.array(column if hasattr(column, "__array__") else list(column))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{_NAME}: the {ROLES[role]} column is not an array of one type ({error})") from error


def _encoded(role: int, ids: Any) -> tuple[Any, ObjectIdMap | None]:
    """Return ids that Arrow can hold, or integers in their place and the map from these to the ids."""
    array = id_array(ids)
    if array is not None:
        return array, None
    keys = as_list(ids)
    missing = np.array([_is_missing(key) for key in keys], dtype=np.bool_)
    try:
        objects = ObjectIdMap(key for key, none in zip(keys, missing, strict=True) if not none)
        return pa.array(objects.indices(keys), mask=missing), objects
    except TypeError as error:
        raise DataError(f"{_NAME}: the {ROLES[role]} ids must be hashable, but {error}") from error


def _decoded(ids: IdMap, objects: ObjectIdMap | None) -> IdMap:
    return ids if objects is None else ObjectIdMap(objects.ids_at(ids.ids))


def _is_missing(key: Any) -> bool:
    """Return whether a key is None, NaN, or pandas' equivalent of them."""
    try:
        return key is None or bool(key != key)
    except (TypeError, ValueError):
        return True
