"""Reads sparse matrices: Matrix Market files and SciPy's ``.npz``."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.io
import scipy.sparse

from dmf_fast.data.errors import DataError
from dmf_fast.data.raw_columns import RawColumns


def read_matrix_market(path: Path) -> RawColumns:
    """Return the stored entries of a Matrix Market file; the ids are its indices, counted from 1."""
    try:
        field = scipy.io.mminfo(str(path))[4]
        if field not in ("real", "integer", "unsigned-integer"):
            raise DataError(
                f"{path} is a Matrix Market file of the field {field!r}: real or integer values were "
                "expected; write it with values."
            )
        matrix = scipy.io.mmread(str(path))
    except DataError:
        raise
    except (ValueError, OverflowError, OSError, EOFError, MemoryError, zlib.error) as error:
        raise DataError(f"{path} is not a whole Matrix Market file ({error}); write it again.") from error
    return _entries(path, matrix, first_index=1)


def read_scipy_npz(path: Path) -> RawColumns:
    """Return the stored entries of a file of ``scipy.sparse.save_npz``; the ids are indices, from 0."""
    try:
        # Opened here, so that it is closed here: NumPy leaves a spoilt file open.
        with path.open("rb") as file:
            matrix = scipy.sparse.load_npz(file)
    except (ValueError, OSError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} is not a sparse matrix of scipy.sparse.save_npz ({error}); write it again with save_npz."
        ) from error
    return _entries(path, matrix, first_index=0)


def _entries(path: Path, matrix: Any, first_index: int) -> RawColumns:
    if isinstance(matrix, np.ndarray):
        rows, columns = (index.ravel() for index in np.indices(matrix.shape))
        values = matrix.ravel()
    else:
        try:
            coordinates = matrix.tocoo()
            rows, columns, values = coordinates.row, coordinates.col, coordinates.data
            _check_indices(coordinates)
        except (ValueError, IndexError, AttributeError) as error:
            raise DataError(
                f"{path} holds an inconsistent sparse matrix ({error}); write it again."
            ) from error
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"{path} holds values of the type {values.dtype}: real numbers were expected; convert it."
        )
    return RawColumns(
        [
            pa.chunked_array([rows.astype(np.int64) + first_index]),
            pa.chunked_array([columns.astype(np.int64) + first_index]),
            pa.chunked_array([values.astype(np.float64)]),
        ],
        lambda entry: f"entry {entry + 1}",
    )


def _check_indices(matrix: Any) -> None:
    """Refuse what a spoilt file can hold: a matrix whose parts disagree."""
    for name, index, size in (("row", matrix.row, matrix.shape[0]), ("column", matrix.col, matrix.shape[1])):
        if index.shape != matrix.data.shape:
            raise ValueError(f"{index.size} {name} indices for {matrix.data.size} values")
        if index.size and (index.min() < 0 or index.max() >= size):
            raise ValueError(f"a {name} index outside 0..{size - 1}")
