"""What ``Observations`` hold: a shared pattern, and numbers that move into the layout once it is there."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmf_fast.observations.layout import Layout
from dmf_fast.observations.pattern import Pattern
from dmf_fast.observations.splitting import split_positions
from dmf_fast.observations.validation import check_finite


class Storage:
    """Checked values and weights of a pattern's entries on one device; takes over the tensors."""

    __slots__ = (
        "_built",
        "_layout",
        "_values",
        "_weights",
        "device",
        "dtype",
        "pattern",
        "total_weight",
        "weighted",
    )

    def __init__(
        self, pattern: Pattern, values: Tensor, weights: Tensor | None, device: torch.device
    ) -> None:
        self.pattern = pattern
        self.device = device
        self.dtype = values.dtype
        self.weighted = weights is not None
        self.total_weight = float(pattern.nnz) if weights is None else _sum(weights)
        # In the caller's order, and only until the layout holds them.
        self._values: Tensor | None = values.to(device)
        self._weights = None if weights is None else weights.to(device)
        self._layout: Layout | None = None
        self._built = False

    @classmethod
    def of_layout(cls, pattern: Pattern, layout: Layout) -> Storage:
        """Return the storage of a layout that is there already; its tensors have been checked."""
        storage = object.__new__(cls)
        storage.pattern = pattern
        storage.device = layout.buffer.device
        storage.dtype = layout.values.dtype
        storage.weighted = layout.weights is not None
        storage.total_weight = float(pattern.nnz) if layout.weights is None else _sum(layout.weights)
        storage._values = storage._weights = None
        storage._layout = layout
        storage._built = True
        return storage

    def rows(self) -> Tensor:
        """Return a new int64 tensor in the caller's order."""
        return self._indices(0)

    def columns(self) -> Tensor:
        """Return a new int64 tensor in the caller's order."""
        return self._indices(1)

    def values(self) -> Tensor:
        """Return a new tensor in the caller's order."""
        values = self._values  # read once: another thread may be building the layout
        return self.pattern.to_caller_order(self.layout().values) if values is None else values.clone()

    def weights(self) -> Tensor | None:
        """Return a new tensor in the caller's order, or None where there are no weights."""
        if not self.weighted:
            return None
        weights = self._weights
        if weights is not None:
            return weights.clone()
        tiled = self.layout().weights
        assert tiled is not None
        return self.pattern.to_caller_order(tiled)

    def layout(self) -> Layout:
        """Return the layout, built at the first call."""
        # torch.compile cannot trace a lock, and a guard on `_layout is None` would not survive the build:
        # hence the plain flag, and a function that is called while tracing.
        if not self._built:
            _build_layout(self)
        assert self._layout is not None
        return self._layout

    def converted(self, device: torch.device, dtype: torch.dtype) -> Storage:
        """Return the same entries on ``device`` in ``dtype``, refusing what ``dtype`` cannot hold."""
        values, weights = self.values(), self.weights()
        converted = _narrowed("values", values, dtype)
        converted_weights = None if weights is None else _narrowed("weights", weights, dtype)
        return Storage(self.pattern, converted, converted_weights, device)

    def transposed(self) -> Storage:
        """Return the entries of the transposed matrix."""
        rows, columns = self.pattern.coordinates()
        pattern = Pattern(columns, rows, (self.pattern.shape[1], self.pattern.shape[0]))
        return Storage(pattern, self.values(), self.weights(), self.device)

    def split(self, test_fraction: float, seed: int) -> tuple[Storage, Storage]:
        """Return the training and the test entries."""
        rows, columns = self.pattern.coordinates()
        values, weights = self.values(), self.weights()

        def part(positions: NDArray[np.intp]) -> Storage:
            chosen = torch.from_numpy(positions).to(self.device)
            pattern = Pattern(rows[positions], columns[positions], self.pattern.shape)
            return Storage(pattern, values[chosen], None if weights is None else weights[chosen], self.device)

        train, test = split_positions(rows, self.pattern.shape[0], test_fraction, seed)
        return part(train), part(test)

    def arguments(self) -> tuple[Any, ...]:
        """Return rows, columns, values, shape and weights: all that there is to save."""
        rows, columns = self.pattern.coordinates()
        return rows, columns, self.values(), self.pattern.shape, self.weights()

    def _indices(self, axis: int) -> Tensor:
        return torch.from_numpy(self.pattern.coordinates()[axis]).to(self.device, torch.int64, copy=True)


def _build_layout(storage: Storage) -> None:
    pattern = storage.pattern
    # Whatever mode or transform (torch.func) the first use is in, the layout belongs to none of them.
    with pattern.lock, torch.inference_mode(False), torch._C._DisableFuncTorch():
        if storage._built:
            return
        assert storage._values is not None
        buffer = pattern.buffer(storage.device)  # held here, as the pattern does not hold that of a GPU
        values = pattern.to_tile_order(storage._values)
        weights = None if storage._weights is None else pattern.to_tile_order(storage._weights)
        if storage.device.type == "cuda":
            # Whoever reads the layout next may do so on another stream.
            torch.cuda.current_stream(storage.device).synchronize()
        # In this order, as other threads read without the lock.
        storage._layout = Layout(buffer, values, weights)
        storage._built = True
        storage._values = storage._weights = None


# What torch.compiler.assume_constant_result does, without the second that importing torch._dynamo takes:
# a function compiled before the layout was built builds it while it is traced.
_build_layout._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _narrowed(name: str, numbers: Tensor, dtype: torch.dtype) -> Tensor:
    converted = numbers.to(dtype)
    check_finite(name, converted, numbers)
    return converted


def _sum(weights: Tensor) -> float:
    # NumPy's sum is the same for any number of threads; torch's is not.
    with np.errstate(over="ignore"):
        total = float(weights.to("cpu", torch.float64).numpy().sum())
    if not np.isfinite(total):
        raise ValueError("weights must have a finite sum, got one beyond float64; scale the weights down")
    return total
