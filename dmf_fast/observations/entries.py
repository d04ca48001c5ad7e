"""Converts user input to checked entries."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmf_fast.observations.duplicates import Duplicates, Entries, check_policy, merge_duplicates
from dmf_fast.observations.layout import index_dtype
from dmf_fast.observations.validation import (
    check_finite,
    check_length,
    check_not_negative,
    check_range,
    read_indices,
    read_numbers,
    resolve_shape,
    to_tensor,
)


def read_entries(
    rows: Any, columns: Any, values: Any, weights: Any, shape: Any, dtype: torch.dtype, duplicates: Duplicates
) -> Entries:
    """Return copies of the arguments of ``Observations``, checked and without duplicates."""
    check_policy(duplicates)
    row_indices, column_indices = read_indices("rows", rows), read_indices("columns", columns)
    nnz = len(row_indices)
    check_length("columns", len(column_indices), nnz)
    checked_values, checked_weights = read_values(values, nnz, dtype), read_weights(weights, nnz, dtype)
    shape = resolve_shape(shape, row_indices, column_indices)
    check_range("rows", row_indices, shape[0])
    check_range("columns", column_indices, shape[1])
    narrow = index_dtype(shape)
    entries = Entries(
        row_indices.astype(narrow), column_indices.astype(narrow), shape, checked_values, checked_weights
    )
    return merge_duplicates(entries, duplicates)


def read_values(values: Any, nnz: int, dtype: torch.dtype) -> Tensor:
    """Return a checked copy of ``values`` on the CPU."""
    return _read_finite("values", values, nnz, dtype)


def read_weights(weights: Any, nnz: int, dtype: torch.dtype) -> Tensor | None:
    """Return a checked copy of ``weights`` on the CPU, or None if they are None."""
    if weights is None:
        return None
    numbers = _read_finite("weights", weights, nnz, dtype)
    check_not_negative("weights", numbers)
    return numbers


def in_dtype(name: str, numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """Return checked numbers in another dtype; raise a `ValueError` if one is too large for it."""
    converted = numbers.to(dtype)
    check_finite(name, converted, numbers)
    return converted


def sum_of_weights(weights: Tensor) -> float:
    """Return the sum in float64; raise a `ValueError` if it overflows."""
    # Unlike torch's, NumPy's sum does not depend on the number of threads.
    with np.errstate(over="ignore"):
        total = float(weights.to("cpu", torch.float64).numpy().sum())
    if not np.isfinite(total):
        raise ValueError(
            "the sum of `weights` must be finite in float64, got an overflow; scale the weights down"
        )
    return total


def _read_finite(name: str, given: Any, nnz: int, dtype: torch.dtype) -> Tensor:
    numbers = read_numbers(name, given)
    check_length(name, len(numbers), nnz)
    converted = to_tensor(numbers, dtype)
    check_finite(name, converted, numbers)
    return converted
