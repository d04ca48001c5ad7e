"""An array that grows at its end without ever being in memory twice."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

Number = TypeVar("Number", bound=np.generic)

# glibc returns freed pieces of more than 32 MB to the system, but not always smaller ones.
_PIECE_BYTES = 1 << 26


class GrowingArray(Generic[Number]):
    """Numbers of one dtype, in large pieces whose memory is committed as it is written."""

    def __init__(self, dtype: DTypeLike) -> None:
        self._dtype: np.dtype[Any] = np.dtype(dtype)
        self._piece_length = _PIECE_BYTES // self._dtype.itemsize
        self._pieces: list[NDArray[Number]] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, numbers: NDArray[Any]) -> None:
        """Copy ``numbers``, converted to the dtype, to the end."""
        while len(numbers):
            used = self._length % self._piece_length
            if used == 0:
                self._pieces.append(np.empty(self._piece_length, self._dtype))
            part = numbers[: self._piece_length - used]
            self._pieces[-1][used : used + len(part)] = part
            self._length += len(part)
            numbers = numbers[len(part) :]

    def finish(self) -> NDArray[Number]:
        """Return all numbers in one array; each piece is freed as soon as it is copied."""
        whole: NDArray[Number] = np.empty(self._length, self._dtype)
        self._pieces.reverse()
        start = 0
        while self._pieces:
            piece = self._pieces.pop()[: self._length - start]
            whole[start : start + len(piece)] = piece
            start += len(piece)
        self._length = 0
        return whole
