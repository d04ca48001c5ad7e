"""Matrices as ratings, with indices as ids: files of SciPy's ``save_npz``, and matrices in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy
from numpy.typing import NDArray

from dmf_fast.data.bad_rows import BadRowCollector
from dmf_fast.data.chunks import ROWS_A_CHUNK, Chunk, NumberedPlace, clean_chunk
from dmf_fast.data.errors import DataError
from dmf_fast.data.options import ReadOptions
from dmf_fast.data.sources import Archive, RatingsFile

Triplets = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
"""Rows, columns and values, ``(nnz,)`` each."""

_PARTS = {
    "csr": ("data", "indices", "indptr"),
    "csc": ("data", "indices", "indptr"),
    "bsr": ("data", "indices", "indptr"),
    "dia": ("data", "offsets"),
    "coo": ("data", "row", "col"),
}


def npz_chunks(
    file: RatingsFile, options: ReadOptions, count: int, bad_rows: BadRowCollector
) -> Iterator[Chunk]:
    """Yield ``count`` columns of a matrix of ``scipy.sparse.save_npz``; its indices, from 0, are the ids.

    Its arrays are read here rather than by SciPy, which trusts the sizes in their headers. Raises a
    `ValueError` if the file is inconsistent.
    """
    from dmf_fast.observations.conversion import checked_entries  # here, as it imports torch

    archive = Archive(file.on_disk())
    arrays = {}
    for member in archive.members:
        with archive.opened(member) as opened:
            arrays[member.removesuffix(".npy")] = _read_array(opened)
    kind, shape = arrays["format"].item(), arrays["shape"]
    kind = kind.decode("ascii") if isinstance(kind, bytes) else kind
    if kind not in _PARTS:
        raise ValueError(f"its format is {kind!r}")
    if shape.shape != (2,) or shape.dtype.kind not in "iu" or (shape < 0).any():
        raise ValueError(f"its shape is {shape!r:.99}")
    if kind == "coo" and "coords" in arrays:
        arrays["row"], arrays["col"] = arrays["coords"]
    parts = {name: arrays[name] for name in _PARTS[kind]}
    matrix = SimpleNamespace(format=kind, shape=tuple(shape.tolist()), **parts)
    yield from matrix_chunks(str(file), _real(file, checked_entries(matrix)), 0, options, count, bad_rows)


def matrix_chunks(
    name: str,
    triplets: Triplets,
    first_index: int,
    options: ReadOptions,
    count: int,
    bad_rows: BadRowCollector,
) -> Iterator[Chunk]:
    """Yield ``count`` columns of the entries of a matrix; its indices, from ``first_index``, are the ids.

    ``name`` is its name in errors.
    """
    if count > 3:
        raise DataError(f"{name} is a matrix, which has no times; read it without times, or read a table")
    rows, columns, values = triplets
    for start in range(0, len(values), ROWS_A_CHUNK):
        part = slice(start, start + ROWS_A_CHUNK)
        arrays = [
            pa.array(rows[part].astype(np.int64) + first_index),
            pa.array(columns[part].astype(np.int64) + first_index),
            pa.array(values[part].astype(np.float64)),
        ]
        place = NumberedPlace(name, "entry", start)
        yield clean_chunk(arrays[:count], place, bad_rows, dtype=options.dtype)


def stored_entries(name: str, matrix: Any) -> Triplets:
    """Return the stored entries of a SciPy matrix, or the entries of an array that are not NaN."""
    from dmf_fast.observations.conversion import checked_entries  # here, as it imports torch

    if isinstance(matrix, np.ndarray):
        if matrix.ndim != 2:
            raise DataError(f"{name} has {matrix.ndim} dimensions, but a matrix was expected; reshape it")
        kept = ~np.isnan(matrix) if matrix.dtype.kind == "f" else np.ones(matrix.shape, dtype=np.bool_)
        rows, columns = np.nonzero(kept)
        return _real(name, (rows, columns, matrix[kept]))
    try:
        if len(matrix.shape) != 2:
            raise ValueError(f"it has {len(matrix.shape)} dimensions")
        triplets = checked_entries(matrix)
    except (ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{name} holds an inconsistent sparse matrix ({error}); build it again with its constructor"
        ) from error
    return _real(name, triplets)


def _real(name: object, triplets: Triplets) -> Triplets:
    dtype = triplets[2].dtype
    if dtype.kind not in "biuf":
        raise DataError(f"{name} holds values of type {dtype}, but real numbers were expected; convert it")
    return triplets


def _read_array(file: BinaryIO) -> NDArray[Any]:
    """Return the array of an .npy file, whose header must match its content."""
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_columns, dtype = read_header(file)
    content = file.read()
    if dtype.hasobject or dtype.itemsize == 0 or len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(content)} bytes do not hold an array {dtype} of shape {shape}")
    array: NDArray[Any] = np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")
    return array
