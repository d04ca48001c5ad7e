"""Reads sparse matrices: Matrix Market files and SciPy's ``.npz``."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import scipy  # its parts when they are used: they are slow to import
from numpy.typing import NDArray

from dmf_fast.data.bad_rows import BadRowCollector
from dmf_fast.data.batches import ROWS_A_BATCH, Batch, NumberedPlace, clean_batch
from dmf_fast.data.errors import DataError
from dmf_fast.data.options import ReadOptions
from dmf_fast.data.sources import RatingsFile


def read_matrix_market(file: RatingsFile) -> Coordinates:
    """Return the stored entries of a Matrix Market file; the ids are its indices, counted from 1."""
    try:
        with _readable(file) as readable:
            field = scipy.io.mminfo(readable)[4]
        if field not in ("real", "integer", "unsigned-integer"):
            raise DataError(
                f"{file} is a Matrix Market file of the field {field!r}: real or integer values were "
                "expected; write it with values."
            )
        with _readable(file) as readable:
            matrix = scipy.io.mmread(readable)
    except DataError:
        raise
    except (ValueError, OverflowError, OSError, EOFError, MemoryError, zlib.error) as error:
        raise DataError(f"{file} is not a whole Matrix Market file ({error}); write it again.") from error
    return coordinates(str(file), matrix, first_index=1)


def read_scipy_npz(file: RatingsFile) -> Coordinates:
    """Return the stored entries of a file of ``scipy.sparse.save_npz``; the ids are indices, from 0."""
    try:
        # Opened here, so that it is closed here: NumPy leaves a spoilt file open.
        with file.opened(decompressed=False) as opened:
            matrix = scipy.sparse.load_npz(opened)
    except (ValueError, OSError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{file} is not a sparse matrix of scipy.sparse.save_npz ({error.__cause__ or error}); "
            "write it again with save_npz."
        ) from error
    return coordinates(str(file), matrix, first_index=0)


def matrix_batches(
    name: str, entries: Coordinates, options: ReadOptions, count: int, bad_rows: BadRowCollector
) -> Iterator[Batch]:
    """Yield ``count`` columns of the entries of a matrix; ``name`` is the one in errors."""
    if count > 3:
        raise DataError(f"{name} is a matrix without times; read it without, or from a table that has them.")
    for start in range(0, len(entries.values), ROWS_A_BATCH):
        part = slice(start, start + ROWS_A_BATCH)
        arrays = [
            pa.array(entries.rows[part].astype(np.int64) + entries.first_index),
            pa.array(entries.columns[part].astype(np.int64) + entries.first_index),
            pa.array(entries.values[part].astype(np.float64)),
        ]
        place = NumberedPlace(name, "entry", start)
        yield clean_batch(arrays[:count], place, bad_rows, dtype=options.dtype)


@dataclass(frozen=True)
class Coordinates:
    """The entries of a matrix, whose ids are its indices counted from ``first_index``."""

    rows: NDArray[np.integer[Any]]
    columns: NDArray[np.integer[Any]]
    values: NDArray[Any]
    first_index: int


def coordinates(name: str, matrix: Any, first_index: int) -> Coordinates:
    """Return the stored entries of a SciPy matrix, or those of an array that are not NaN."""
    if isinstance(matrix, np.ndarray):
        if matrix.ndim != 2:
            raise DataError(f"{name} has {matrix.ndim} dimensions: a matrix was expected; reshape it.")
        kept = ~np.isnan(matrix) if matrix.dtype.kind == "f" else np.ones(matrix.shape, dtype=np.bool_)
        rows, columns = np.nonzero(kept)
        values = matrix[kept]
    else:
        try:
            stored = matrix.tocoo()
            rows, columns, values = stored.row, stored.col, stored.data
            _check_indices(stored)
        except (ValueError, IndexError, AttributeError) as error:
            raise DataError(
                f"{name} holds an inconsistent sparse matrix ({error}); write it again."
            ) from error
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"{name} holds values of the type {values.dtype}: real numbers were expected; convert it."
        )
    return Coordinates(rows, columns, values, first_index)


def _readable(file: RatingsFile) -> AbstractContextManager[Any]:
    """Return what SciPy reads from: the path of a plain file, which is fastest, or an open one."""
    plain = file.member is None and file.path.suffix == ".mtx"
    return nullcontext(str(file.path)) if plain else file.opened()


def _check_indices(matrix: Any) -> None:
    """Refuse what a spoilt file can hold: a matrix whose parts disagree."""
    for name, index, size in (("row", matrix.row, matrix.shape[0]), ("column", matrix.col, matrix.shape[1])):
        if index.shape != matrix.data.shape:
            raise ValueError(f"{index.size} {name} indices for {matrix.data.size} values")
        if index.size and (index.min() < 0 or index.max() >= size):
            raise ValueError(f"a {name} index outside 0..{size - 1}")
