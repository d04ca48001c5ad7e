"""Reads sparse matrices: Matrix Market files and SciPy's ``.npz``."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dmf_fast.data.bad_rows import BadRowCollector
from dmf_fast.data.chunks import ROWS_A_CHUNK, Chunk, NumberedPlace, clean_chunk
from dmf_fast.data.errors import DataError
from dmf_fast.data.options import ReadOptions
from dmf_fast.data.sources import RatingsFile

if TYPE_CHECKING:
    from scipy.sparse import coo_array


def read_matrix_market(file: RatingsFile) -> coo_array:
    """Return the stored entries of a Matrix Market file."""
    import scipy.io  # here, as it is slow to import

    try:
        with _readable(file) as readable:
            field = scipy.io.mminfo(readable)[4]
        if field not in ("real", "integer", "unsigned-integer"):
            raise DataError(
                f"{file} is a Matrix Market file of the field {field!r}: real or integer values were "
                "expected; write it with values"
            )
        with _readable(file) as readable:
            matrix = scipy.io.mmread(readable)
    except DataError:
        raise
    except (ValueError, OverflowError, OSError, EOFError, MemoryError, zlib.error) as error:
        raise DataError(f"{file} is not a whole Matrix Market file ({error}); write it again") from error
    return stored_entries(str(file), matrix)


def read_scipy_npz(file: RatingsFile) -> coo_array:
    """Return the stored entries of a file of ``scipy.sparse.save_npz``."""
    import scipy.sparse  # here, as it is slow to import

    try:
        # Opened here, so that it is closed here: NumPy leaves a spoilt file open.
        with file.opened(decompressed=False) as opened:
            matrix = scipy.sparse.load_npz(opened)
    except (ValueError, OSError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{file} is not a sparse matrix of scipy.sparse.save_npz ({error.__cause__ or error}); "
            "write it again with save_npz"
        ) from error
    return stored_entries(str(file), matrix)


def matrix_chunks(
    name: str,
    entries: coo_array,
    first_index: int,
    options: ReadOptions,
    count: int,
    bad_rows: BadRowCollector,
) -> Iterator[Chunk]:
    """Yield ``count`` columns of the entries of a matrix, whose ids are its indices from ``first_index``.

    ``name`` is the one in errors.
    """
    if count > 3:
        raise DataError(f"{name} is a matrix without times; read it without, or from a table that has them")
    for start in range(0, len(entries.data), ROWS_A_CHUNK):
        part = slice(start, start + ROWS_A_CHUNK)
        arrays = [
            pa.array(entries.row[part].astype(np.int64) + first_index),
            pa.array(entries.col[part].astype(np.int64) + first_index),
            pa.array(entries.data[part].astype(np.float64)),
        ]
        place = NumberedPlace(name, "entry", start)
        yield clean_chunk(arrays[:count], place, bad_rows, dtype=options.dtype)


def stored_entries(name: str, matrix: Any) -> coo_array:
    """Return the stored entries of a SciPy matrix, or those of an array that are not NaN."""
    from scipy.sparse import coo_array  # here, as it is slow to import

    if isinstance(matrix, np.ndarray):
        if matrix.ndim != 2:
            raise DataError(f"{name} has {matrix.ndim} dimensions: a matrix was expected; reshape it")
        kept = ~np.isnan(matrix) if matrix.dtype.kind == "f" else np.ones(matrix.shape, dtype=np.bool_)
        _check_kind(name, matrix.dtype)
        return coo_array((matrix[kept], np.nonzero(kept)), shape=matrix.shape)
    try:
        stored = matrix.tocoo()
        _check_indices(stored)
    except (ValueError, IndexError, AttributeError) as error:
        raise DataError(f"{name} holds an inconsistent sparse matrix ({error}); write it again") from error
    _check_kind(name, stored.data.dtype)
    return stored


def _check_kind(name: str, dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "biuf":
        raise DataError(f"{name} holds values of the type {dtype}: real numbers were expected; convert it")


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
