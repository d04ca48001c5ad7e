"""Reads and checks user input: rows, columns, values, weights and shape.

Every error names the argument, the first offending position, the requirement and a remedy.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_LARGEST_INT64 = 2**63 - 1


def read_indices(name: str, given: Any) -> NDArray[Any]:
    """Return ``given`` as a one-dimensional integer array on the CPU, without a copy where possible."""
    numbers = read_any_array(name, given)
    if numbers.ndim == 1 and len(numbers) == 0 and isinstance(given, (list, tuple)):
        return np.zeros(0, dtype=np.int64)  # an empty list has no dtype
    if _kind(numbers) not in "iu":
        hint = "convert with .astype(np.int64) or .long() if that is intended"
        raise TypeError(f"`{name}` must hold integers, got {numbers.dtype}; {hint}")
    _check_one_dimensional(name, numbers)
    return numbers.numpy() if isinstance(numbers, Tensor) else numbers


def read_numbers(name: str, given: Any) -> NDArray[Any] | Tensor:
    """Return ``given`` as a one-dimensional array or CPU tensor of real numbers, without a copy."""
    numbers = read_any_array(name, given)
    if _kind(numbers) not in "iuf":
        raise TypeError(
            f"`{name}` must hold real numbers, got {numbers.dtype}; "
            + ("use its .real" if _kind(numbers) == "c" else "convert to a floating dtype first")
        )
    _check_one_dimensional(name, numbers)
    return numbers


def read_mask(name: str, given: Any, nnz: int) -> NDArray[np.bool_]:
    """Return ``given`` as an ``(nnz,)`` array of booleans, without a copy where possible."""
    mask = np.asarray(read_any_array(name, given))
    if mask.dtype != np.bool_ and mask.size:
        raise TypeError(f"`{name}` must hold booleans, got {mask.dtype}")
    if mask.shape != (nnz,):
        raise ValueError(f"`{name}` must hold one boolean for each of {nnz} entries, got shape {mask.shape}")
    return mask.astype(np.bool_, copy=False)


def read_any_array(name: str, given: Any) -> NDArray[Any] | Tensor:
    """Return ``given`` as an array, or as a detached CPU tensor if it is a tensor, without a copy."""
    if isinstance(given, Tensor):
        if given.layout != torch.strided:
            raise TypeError(
                f"`{name}` must be a dense tensor, got {given.layout}; use Observations.from_torch_sparse"
            )
        return given.detach().cpu()
    if hasattr(given, "tocoo"):
        raise TypeError(f"`{name}` must be dense, got a sparse matrix; use Observations.from_scipy")
    if isinstance(given, np.ma.MaskedArray):
        raise TypeError(
            f"`{name}` must not be masked, got a masked array, whose mask would be lost; "
            "use .compressed(), or Observations.from_dense(array.data, ~np.ma.getmaskarray(array))"
        )
    try:
        return np.asarray(given)
    except (ValueError, TypeError) as error:
        raise TypeError(
            f"`{name}` must be an array, a tensor or a list of numbers, got {given!r:.80}"
        ) from error


def default_dtype(values: Any) -> torch.dtype:
    """Return the default dtype for ``values``."""
    if isinstance(values, (list, tuple)):
        return torch.get_default_dtype()
    numbers = values if isinstance(values, Tensor) else np.asarray(values)
    if _kind(numbers) != "f":
        return torch.float32
    if isinstance(numbers, Tensor):
        return numbers.dtype
    known = {2: torch.float16, 4: torch.float32, 8: torch.float64}
    if numbers.itemsize not in known:
        raise TypeError(
            f"`values` must have a dtype that torch supports, got {numbers.dtype}; choose one with dtype="
        )
    return known[numbers.itemsize]


def check_dtype(dtype: Any) -> torch.dtype:
    """Return ``dtype``; raise a `TypeError` if the kernels do not support it."""
    if dtype not in DTYPES:
        names = ", ".join(str(supported) for supported in DTYPES)
        raise TypeError(f"`dtype` must be one of {names}, got {dtype!r}; choose one with dtype=")
    return dtype  # type: ignore[no-any-return]


def check_device(device: Any) -> torch.device:
    """Return ``device`` with its index; raise an error if it is not a device or not available."""
    try:
        return torch.empty(0, device=device).device
    except (TypeError, RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        hint = "; write dtype= before a dtype" if isinstance(device, torch.dtype) else ""
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"`device` must be available to torch, got {device!r}: {reason}{hint}") from error


def move_advice(device: torch.device) -> str:
    """Return the advice for tensors on another ``device`` than the observations.

    >>> move_advice(torch.device("meta"))
    'make it on a CPU or a GPU'
    """
    usable = device.type in ("cpu", "cuda")
    return f"use observations.to({str(device)!r})" if usable else "make it on a CPU or a GPU"


def to_tensor(numbers: NDArray[Any] | Tensor, dtype: torch.dtype) -> Tensor:
    """Return a contiguous copy of ``numbers`` in ``dtype`` on the CPU."""
    if isinstance(numbers, Tensor):
        return numbers.to(dtype, copy=True).contiguous()
    # NumPy has no bfloat16, and torch accepts neither foreign byte orders nor extended precision.
    numpy_dtype = {torch.float64: np.float64, torch.float16: np.float16}.get(dtype, np.float32)
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.array(numbers, dtype=numpy_dtype, order="C")).to(dtype)


def resolve_shape(shape: Any, rows: NDArray[Any], columns: NDArray[Any]) -> tuple[int, int]:
    """Return ``shape`` as two checked Python integers, or the smallest shape that contains all entries."""
    if shape is None:
        if len(rows) == 0:
            raise ValueError("`shape` must be (m, n) if there are no entries to infer it from, got None")
        return max(0, int(rows.max())) + 1, max(0, int(columns.max())) + 1
    try:
        sizes = tuple(operator.index(size) for size in shape)
    except TypeError:
        raise TypeError(f"`shape` must be a pair of integers (m, n), got {shape!r}") from None
    if len(sizes) != 2:
        raise ValueError(f"`shape` must be a pair of integers (m, n), got {len(sizes)} of them: {shape!r}")
    for axis, size in zip(("rows", "columns"), sizes, strict=True):
        if not 0 <= size <= _LARGEST_INT64:
            raise ValueError(f"the number of {axis} in `shape` must be from 0 to 2**63 - 1, got {size}")
    return sizes


def check_length(name: str, length: int, expected: int) -> None:
    """Raise a `ValueError` if an array does not have the expected length."""
    if length != expected:
        raise ValueError(
            f"`{name}` must hold one number for each of the {expected} entries of `rows`, got {length}; "
            "all arrays must have the same length"
        )


def check_range(name: str, indices: NDArray[Any], size: int) -> None:
    """Raise an `IndexError` for indices outside ``[0, size)``."""
    if len(indices) == 0 or (indices.min() >= 0 and indices.max() < size):
        return
    position = int(np.argmax((indices < 0) | (indices >= size)))
    limit = f"be from 0 to {size - 1}" if size > 0 else f"not occur: the shape has no {name}"
    raise IndexError(
        f"`{name}` must {limit}, got {name}[{position}] = {indices[position]}; indices start at 0, "
        "pass shape=(m, n) if the matrix is larger"
    )


def check_finite(name: str, numbers: Tensor, given: NDArray[Any] | Tensor) -> None:
    """Raise a `ValueError` for NaN or infinity in ``numbers``, which were converted from ``given``."""
    # aminmax propagates NaN and needs no temporary memory.
    if len(numbers) == 0 or bool(torch.isfinite(torch.stack(numbers.aminmax())).all()):
        return
    position = int((~torch.isfinite(numbers)).nonzero()[0])
    number = float(given[position])
    if np.isfinite(number):
        what = f"{number:g}, which {numbers.dtype} cannot hold; choose a wider dtype or scale the {name}"
    else:
        what = f"{number}; leave out unknown entries"
    raise ValueError(f"`{name}` must be finite, got {name}[{position}] = {what}")


def check_not_negative(name: str, numbers: Tensor) -> None:
    """Raise a `ValueError` for negative numbers."""
    if numbers.numel() > 0 and bool(numbers.min() < 0):
        position = int((numbers < 0).nonzero()[0])
        raise ValueError(
            f"`{name}` must not be negative, got {name}[{position}] = {float(numbers[position]):g}; "
            "use a weight of 0 to ignore an entry"
        )


def _check_one_dimensional(name: str, numbers: NDArray[Any] | Tensor) -> None:
    if numbers.ndim != 1:
        raise ValueError(
            f"`{name}` must be one-dimensional, got shape {tuple(numbers.shape)}; "
            "use .ravel(), or Observations.from_dense for a matrix"
        )


def _kind(numbers: NDArray[Any] | Tensor) -> str:
    """Return NumPy's character code for the kind of number: b, i, u, f, c, or another."""
    if not isinstance(numbers, Tensor):
        return numbers.dtype.kind
    if numbers.dtype == torch.bool:
        return "b"
    if numbers.is_complex():
        return "c"
    return "f" if numbers.is_floating_point() else "i"
