"""The layout of the observed entries that the kernels read: one flat buffer of bytes.

``csrc/kernels/observed_layout.h`` describes the buffer on the CPU and ``csrc/kernels/cuda/device_layout.h``
the one on a GPU, which is built there. *Tile order* is the order in which the kernels of a device visit the
entries; the buffer holds the position of each entry, in tile order, in the caller's arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmf_fast import _native, cuda

_LARGEST_INT32 = 2**31 - 1

Indices = NDArray[np.signedinteger[Any]]


@dataclass(frozen=True, eq=False)
class Layout:
    """What the kernels read of ``Observations``; its memory is shared with them and must not be modified.

    Attributes:
        buffer: the tiled pattern, uint8, one-dimensional.
        values: ``(nnz,)`` in tile order, in the dtype of the observations.
        weights: ``(nnz,)`` in tile order, in the dtype of the observations, or None.

    """

    buffer: Tensor
    values: Tensor
    weights: Tensor | None


def index_dtype(shape: tuple[int, int]) -> type[np.int32] | type[np.int64]:
    """Return the dtype that holds the row and column indices of a matrix of ``shape``."""
    return np.int32 if max(shape) <= _LARGEST_INT32 else np.int64


def build_layout(rows: Indices, columns: Indices, shape: tuple[int, int]) -> Tensor:
    """Return the buffer for distinct, checked entries of a matrix of ``shape``, built in parallel.

    ``rows`` and ``columns`` are ``(nnz,)``, both of ``index_dtype(shape)``. Temporary memory: 8 bytes per
    entry.

    Raises:
        ValueError: the matrix has so many rows and columns that even the grid of tiles is too large.

    Example:
        >>> import numpy as np
        >>> buffer = build_layout(np.array([1, 0], np.int32), np.array([0, 2], np.int32), (2, 3))
        >>> decode_layout(buffer)
        (array([1, 0]), array([0, 2]))

    """
    make_builder = _native.LayoutBuilder32 if rows.dtype == np.int32 else _native.LayoutBuilder64
    builder = make_builder(rows, columns, *shape, torch.get_num_threads())
    buffer = torch.empty(builder.bytes, dtype=torch.uint8, device="cpu")
    builder.write(buffer.numpy())
    return buffer


def build_device_layout(
    rows: Indices, columns: Indices, shape: tuple[int, int], device: torch.device
) -> Tensor:
    """Return the buffer for the entries of :func:`build_layout` on a GPU, built there.

    Temporary memory on the GPU: 24 bytes per entry, and the indices.

    Raises:
        ValueError: there are no kernels for ``device``, there are more rows, columns or entries than they
            support, or a CUDA graph is being captured.

    """
    cuda.check_usable(device)
    if max(shape) > _native.device_max_lines or len(rows) > _native.device_max_nnz:
        raise ValueError(
            "observations on a GPU must have at most 2**31 - 1 rows and columns and 2**32 - 1 entries, got "
            f'shape {shape} with {len(rows)} entries; use observations.to("cpu")'
        )
    if torch.cuda.is_current_stream_capturing():
        raise ValueError(
            f"a layout cannot be built on {device} while a CUDA graph is captured; "
            "call observations.layout() before the capture"
        )
    on_device = (torch.from_numpy(indices).to(device) for indices in (rows, columns))
    buffer: Tensor = torch.ops.dmf_fast.build_layout(*on_device, *shape)
    return buffer


def decode_layout(buffer: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows and columns that ``buffer`` was built from, ``(nnz,)`` each, in the caller's order."""
    rows, columns = _native.decode_layout(buffer.numpy(), torch.get_num_threads())
    return rows, columns


def caller_positions(buffer: Tensor, nnz: int) -> Tensor:
    """Return the position of each entry in the caller's arrays, ``(nnz,)`` in tile order, int32 or int64.

    It is a view of ``buffer`` whenever torch can index with the stored dtype.
    """
    start, item_bytes = 0, 4  # on a GPU
    if buffer.device.type == "cpu":
        facts = _native.describe_layout(buffer.numpy())
        start, item_bytes = facts["position_offset"], facts["position_bytes"]
    stored = buffer[start : start + nnz * item_bytes]
    if item_bytes == 8:
        return stored.view(torch.int64)
    return stored.view(torch.int32) if nnz <= _LARGEST_INT32 else stored.view(torch.uint32).to(torch.int64)
