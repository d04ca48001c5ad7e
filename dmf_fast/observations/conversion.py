"""Entries out of SciPy's sparse matrices, dense matrices and torch's sparse tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmf_fast.observations.validation import read_any_array

Arguments = tuple[Any, Any, Any, tuple[int, int]]
"""Rows, columns, values and shape, as the constructor of ``Observations`` takes them."""


def scipy_entries(matrix: Any) -> Arguments:
    """Return the stored entries of a SciPy sparse matrix or array, zeros and duplicates included."""
    import scipy.sparse  # here, as it is slow to import and most users hold arrays

    if not scipy.sparse.issparse(matrix):
        raise TypeError(
            f"`matrix` must be a SciPy sparse matrix or array, got {type(matrix).__name__}; "
            "use Observations.from_dense for a dense one"
        )
    if matrix.ndim != 2:
        raise ValueError(f"`matrix` must have two dimensions, got shape {matrix.shape}")
    coordinates = matrix.tocoo()
    return coordinates.row, coordinates.col, coordinates.data, coordinates.shape


def dense_entries(array: Any, mask: Any) -> Arguments:
    """Return the entries of a dense matrix where ``mask`` is True, or without one where it is not NaN."""
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
    """Return the stored entries of a COO, CSR or CSC tensor, zeros and duplicates included."""
    if not isinstance(tensor, Tensor) or tensor.layout not in _READERS:
        got = tensor.layout if isinstance(tensor, Tensor) else type(tensor).__name__
        hint = "use Observations.from_dense for a dense matrix, .to_sparse() for another layout"
        raise TypeError(f"`tensor` must be a sparse COO, CSR or CSC tensor, got {got}; {hint}")
    _check_matrix("tensor", tensor)
    rows, columns, values = _READERS[tensor.layout](tensor.detach())
    if values.ndim != 1:
        raise ValueError(f"`tensor` must hold one number an entry, got values of shape {tuple(values.shape)}")
    return rows, columns, values, (int(tensor.shape[0]), int(tensor.shape[1]))


def _check_matrix(name: str, matrix: Any) -> None:
    if matrix.ndim != 2:
        raise ValueError(f"`{name}` must have two dimensions, got shape {tuple(matrix.shape)}")


def _not_nan(numbers: Any) -> Any:
    if isinstance(numbers, Tensor):
        return ~torch.isnan(numbers).numpy()
    # Kinds without NaN are observed everywhere; those that are no numbers are refused with the values.
    return ~np.isnan(numbers) if numbers.dtype.kind in "fc" else np.ones(numbers.shape, dtype=np.bool_)


def _from_coo(tensor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # The public accessors refuse tensors that hold duplicates.
    indices = tensor._indices()
    if indices.shape[0] != 2:
        raise ValueError(f"`tensor` must have two sparse dimensions, got {indices.shape[0]}")
    return indices[0], indices[1], tensor._values()


def _from_csr(tensor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _expand(tensor.crow_indices()), tensor.col_indices(), tensor.values()


def _from_csc(tensor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return tensor.row_indices(), _expand(tensor.ccol_indices()), tensor.values()


def _expand(starts: Tensor) -> Tensor:
    lines = torch.arange(len(starts) - 1, device=starts.device, dtype=starts.dtype)
    return torch.repeat_interleave(lines, starts.diff())


_READERS = {torch.sparse_coo: _from_coo, torch.sparse_csr: _from_csr, torch.sparse_csc: _from_csc}
