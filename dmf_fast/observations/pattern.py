"""The positions of observed entries, shared by ``Observations`` that differ only in values or dtype."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmf_fast.observations.layout import (
    Indices,
    build_device_layout,
    build_layout,
    caller_positions,
    decode_layout,
    index_dtype,
)

_CPU = torch.device("cpu")
# Number of entries from which threads save more than they cost.
_LARGE = 1 << 20


class Pattern:
    """Positions of distinct, checked entries; owns its arrays and builds the layout once for each device.

    Rows and columns are kept only until the CPU layout is built, which they can be decoded from. GPU layouts
    live as long as the observations that use them.
    """

    __slots__ = ("_coordinates", "_cpu_buffer", "_gpu_buffers", "lock", "nnz", "shape")

    def __init__(self, rows: Indices, columns: Indices, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.nnz = len(rows)
        self.lock = threading.RLock()
        dtype = index_dtype(shape)
        self._coordinates: tuple[Indices, Indices] | None = (
            rows.astype(dtype, copy=False),
            columns.astype(dtype, copy=False),
        )
        self._cpu_buffer: Tensor | None = None
        self._gpu_buffers: WeakValueDictionary[torch.device, Tensor] = WeakValueDictionary()

    @classmethod
    def of_layout(cls, buffer: Tensor, shape: tuple[int, int], nnz: int) -> Pattern:
        """Return the pattern whose layout is ``buffer``, which must have been checked and is not copied."""
        pattern = object.__new__(cls)
        pattern.shape = shape
        pattern.nnz = nnz
        pattern.lock = threading.RLock()
        pattern._coordinates = None
        pattern._cpu_buffer = buffer
        pattern._gpu_buffers = WeakValueDictionary()
        return pattern

    def coordinates(self) -> tuple[Indices, Indices]:
        """Return rows and columns in the caller's order; the arrays must not be modified."""
        coordinates = self._coordinates  # read once: another thread may be building the layout
        return decode_layout(self.buffer(_CPU)) if coordinates is None else coordinates

    def buffer(self, device: torch.device) -> Tensor:
        """Return the layout's buffer on ``device``.

        Raises:
            ValueError: there are no kernels for ``device``, or the matrix is too large for a layout there.

        """
        with self.lock:
            if device.type == "cpu":
                return self._buffer_of_cpu()
            buffer = self._gpu_buffers.get(device)
            if buffer is None:
                buffer = build_device_layout(*self.coordinates(), self.shape, device)
                self._gpu_buffers[device] = buffer
            return buffer

    def _buffer_of_cpu(self) -> Tensor:
        if self._cpu_buffer is None:
            assert self._coordinates is not None
            self._cpu_buffer = build_layout(*self._coordinates, self.shape)
            self._coordinates = None
        return self._cpu_buffer

    def select(self, *masks: NDArray[np.bool_]) -> list[Pattern]:
        """Return the positions where each mask, ``(nnz,)``, is True; all are decoded only once."""
        rows, columns = self.coordinates()
        return [Pattern(rows[mask], columns[mask], self.shape) for mask in masks]

    def to_tile_order(self, numbers: Tensor) -> Tensor:
        """Return ``(nnz,)`` numbers in tile order, given those in the caller's order."""
        positions, numbers = self._positions(numbers.device), numbers.detach()
        if numbers.device.type != "cpu" or self.nnz < _LARGE:
            return numbers.index_select(0, positions)
        ordered, threads = torch.empty_like(numbers), torch.get_num_threads()
        bounds = [self.nnz * part // threads for part in range(threads + 1)]

        def order(begin: int, end: int) -> None:
            torch.index_select(numbers, 0, positions[begin:end], out=ordered[begin:end])

        # index_select is single-threaded and limited by the latency of memory.
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(order, bounds[:-1], bounds[1:]))
        return ordered

    def to_caller_order(self, numbers: Tensor) -> Tensor:
        """Return ``(nnz,)`` numbers in the caller's order, given those in tile order."""
        scattered = torch.empty_like(numbers)
        scattered[self._positions(numbers.device)] = numbers
        return scattered

    def _positions(self, device: torch.device) -> Tensor:
        return caller_positions(self.buffer(device), self.nnz)
