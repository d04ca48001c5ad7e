"""Extraction of entries from SciPy sparse matrices, dense matrices and torch sparse tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmf_fast.observations.validation import read_any_array

Arguments = tuple[Any, Any, Any, tuple[int, int]]
"""Rows, columns, values and shape: arguments of the constructor of ``Observations``."""


def scipy_entries(matrix: Any) -> Arguments:
    """Return the stored entries of a SciPy sparse matrix or array, including zeros and duplicates.

    Raises a `TypeError` if ``matrix`` is not one, and a `ValueError` if it is not two-dimensional or its
    parts are inconsistent.
    """
    import scipy.sparse  # here, since it is slow to import and most users pass arrays

    if not scipy.sparse.issparse(matrix):
        raise TypeError(
            f"`matrix` must be a SciPy sparse matrix or array, got {type(matrix).__name__}; "
            "use Observations.from_dense for a dense one"
        )
    if matrix.ndim != 2:
        raise ValueError(f"`matrix` must have two dimensions, got shape {matrix.shape}")
    try:
        return *checked_entries(matrix), matrix.shape
    except (ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"`matrix` must be consistent, but {error}; rebuild it with its constructor"
        ) from error


def dense_entries(array: Any, mask: Any) -> Arguments:
    """Return the entries of a dense matrix where ``mask`` is True or, without a mask, that are not NaN."""
    numbers = read_any_array("array", array)
    _check_matrix("array", numbers)
    if mask is None:
        observed = _not_nan(numbers)
    else:
        observed = np.asarray(read_any_array("mask", mask))
        if observed.dtype != np.bool_:
            raise TypeError(f"`mask` must hold booleans, True where observed, got {observed.dtype}")
        if observed.shape != tuple(numbers.shape):
            raise ValueError(
                f"`mask` must have the shape of `array`, {tuple(numbers.shape)}, got {observed.shape}"
            )
    rows, columns = np.nonzero(observed)
    return rows, columns, numbers[rows, columns], (int(numbers.shape[0]), int(numbers.shape[1]))


def torch_sparse_entries(tensor: Any) -> Arguments:
    """Return the stored entries of a COO, CSR or CSC tensor, including zeros and duplicates."""
    if not isinstance(tensor, Tensor) or tensor.layout not in _READERS:
        got = tensor.layout if isinstance(tensor, Tensor) else type(tensor).__name__
        hint = "use Observations.from_dense for a dense matrix, .to_sparse() for another layout"
        raise TypeError(f"`tensor` must be a sparse COO, CSR or CSC tensor, got {got}; {hint}")
    _check_matrix("tensor", tensor)
    rows, columns, values = _READERS[tensor.layout](tensor.detach())
    if values.ndim != 1:
        raise ValueError(
            f"`tensor` must hold one number per entry, got values of shape {tuple(values.shape)}"
        )
    return rows, columns, values, (int(tensor.shape[0]), int(tensor.shape[1]))


def checked_entries(matrix: Any) -> tuple[Any, Any, Any]:
    """Return the row, column and value of every stored entry of a matrix, all of them checked.

    ``matrix`` has the attributes of a SciPy format. All parts are checked before any index is followed, since
    SciPy's own conversions read and write out of bounds if the indices are corrupt. Memory grows with the
    number of entries, not with the shape. Stored zeros and duplicates are entries, except for the zeros of
    DIA, which cannot be told from padding. Raises a `ValueError` that describes the fault, or another error
    if a part is not an array.
    """
    count, others = matrix.shape
    match matrix.format:
        case "csr":
            rows, columns, values = _compressed(matrix, count)
        case "csc":
            columns, rows, values = _compressed(matrix, others)
        case "bsr":
            rows, columns, values = _blocks(matrix)
        case "dia":
            rows, columns, values = _diagonals(matrix)
        case "lil":
            lengths = [len(row) for row in matrix.data]
            if [len(row) for row in matrix.rows] != lengths or len(lengths) != count:
                raise ValueError("its rows and its data differ in length")
            rows = np.repeat(np.arange(count), lengths)
            indices = [index for row in matrix.rows for index in row]
            columns = np.array(indices) if indices else np.zeros(0, dtype=np.int64)
            values = np.array([number for row in matrix.data for number in row], dtype=matrix.dtype)
        case "coo":
            rows, columns, values = matrix.row, matrix.col, matrix.data
        case "dok":  # a dictionary, the conversion of which follows no index
            stored = matrix.tocoo()
            rows, columns, values = stored.row, stored.col, stored.data
        case other:
            raise ValueError(f"its format {other!r} is unknown")
    _check_part("values", values)
    for name, indices, size in (("row", rows, count), ("column", columns, others)):
        _check_part(f"{name} indices", indices, kinds="iu")
        if len(indices) != len(values):
            raise ValueError(f"it holds {len(indices)} {name} indices for {len(values)} values")
        if len(indices) and (indices.min() < 0 or indices.max() >= size):
            raise ValueError(f"it holds a {name} index outside 0..{size - 1}")
    return rows, columns, values


def _compressed(matrix: Any, lines: int) -> tuple[Any, Any, Any]:
    """Return the line, the index within it and the value of each entry of CSR or CSC, or block of BSR."""
    starts = matrix.indptr
    _check_part("indptr", starts, kinds="iu")
    starts = starts.astype(np.int64)
    if len(starts) != lines + 1 or starts[0] != 0 or (np.diff(starts) < 0).any():
        raise ValueError(f"its indptr must rise from 0 over {lines} lines")
    stored = min(len(matrix.indices), len(matrix.data))  # the arrays may have room for more entries
    if starts[-1] > stored:
        raise ValueError(f"its indptr ends at {starts[-1]}, but {stored} entries are stored")
    kept = slice(int(starts[-1]))
    return np.repeat(np.arange(lines), np.diff(starts)), matrix.indices[kept], matrix.data[kept]


def _blocks(matrix: Any) -> tuple[Any, Any, Any]:
    """Return the entries of BSR, block by block."""
    _check_part("data", matrix.data, dimensions=3)
    height, width = matrix.data.shape[1:]
    if not height or not width or matrix.shape[0] % height or matrix.shape[1] % width:
        raise ValueError(f"blocks of {height} x {width} do not fill the shape {matrix.shape}")
    rows, columns, data = _compressed(matrix, matrix.shape[0] // height)
    _check_part("indices", columns, kinds="iu")
    within = np.arange(height)[:, None], np.arange(width)
    # In int64, no product of an index within the shape and a block size overflows.
    columns = columns.astype(np.int64)
    if len(columns) and (columns.min() < 0 or columns.max() >= matrix.shape[1] // width):
        raise ValueError(f"it holds a block outside the shape {matrix.shape}")
    starts = rows[:, None, None] * height, columns[:, None, None] * width
    inside = [np.broadcast_to(start + step, data.shape) for start, step in zip(starts, within, strict=True)]
    return inside[0].ravel(), inside[1].ravel(), data.ravel()


def _diagonals(matrix: Any) -> tuple[Any, Any, Any]:
    """Return the nonzero entries of DIA."""
    _check_part("data", matrix.data, dimensions=2)
    _check_part("offsets", matrix.offsets, kinds="iu")
    if len(matrix.offsets) != len(matrix.data) or len(np.unique(matrix.offsets)) != len(matrix.data):
        raise ValueError(f"it holds {len(matrix.data)} diagonals, whose offsets must differ")
    count, others = matrix.shape
    diagonal, columns = np.nonzero(matrix.data[:, :others])
    offsets = np.clip(matrix.offsets.astype(np.int64), -count, others)  # diagonals beyond these are empty
    rows = columns - offsets[diagonal]
    inside = (rows >= 0) & (rows < count)
    rows, columns = rows[inside], columns[inside]
    return rows, columns, matrix.data[diagonal[inside], columns]


def _check_part(name: str, part: Any, *, kinds: str = "biufc", dimensions: int = 1) -> None:
    if not isinstance(part, np.ndarray) or part.ndim != dimensions or part.dtype.kind not in kinds:
        shape = f"{part.dtype} of shape {part.shape}" if isinstance(part, np.ndarray) else type(part).__name__
        kind = "integers" if kinds == "iu" else "numbers"
        raise ValueError(f"its {name} must be {kind} in {dimensions} dimension(s), got {shape}")


def _check_matrix(name: str, matrix: Any) -> None:
    if matrix.ndim != 2:
        raise ValueError(f"`{name}` must have two dimensions, got shape {tuple(matrix.shape)}")


def _not_nan(numbers: Any) -> Any:
    if isinstance(numbers, Tensor):
        return ~torch.isnan(numbers).numpy()
    # Dtypes without NaN are observed everywhere; non-numeric ones are rejected later, with the values.
    return ~np.isnan(numbers) if numbers.dtype.kind in "fc" else np.ones(numbers.shape, dtype=np.bool_)


def _from_coo(tensor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # The public accessors reject tensors that are not coalesced.
    indices = tensor._indices()
    if indices.shape[0] != 2:
        raise ValueError(f"`tensor` must have two sparse dimensions, got {indices.shape[0]}")
    return indices[0], indices[1], tensor._values()


def _from_csr(tensor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _expand(tensor.crow_indices(), len(tensor.values())), tensor.col_indices(), tensor.values()


def _from_csc(tensor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return tensor.row_indices(), _expand(tensor.ccol_indices(), len(tensor.values())), tensor.values()


def _expand(starts: Tensor, nnz: int) -> Tensor:
    if (
        starts.is_floating_point()
        or starts.ndim != 1
        or not len(starts)
        or starts[0] != 0
        or starts[-1] != nnz
        or (starts.diff() < 0).any()
    ):
        raise ValueError(
            f"`tensor` must be consistent, but its offsets are not integers that increase from 0 to {nnz}"
        )
    lines = torch.arange(len(starts) - 1, device=starts.device, dtype=starts.dtype)
    return torch.repeat_interleave(lines, starts.diff())


_READERS = {torch.sparse_coo: _from_coo, torch.sparse_csr: _from_csr, torch.sparse_csc: _from_csc}
