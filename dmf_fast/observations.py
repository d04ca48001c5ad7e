"""Observed entries of a matrix (minimal version, being completed)."""

from __future__ import annotations

from typing import Any, Literal

import torch


class Observations:
    """Observed entries of an ``m`` by ``n`` matrix."""

    __slots__ = ("_columns", "_rows", "_shape", "_values", "_weights")

    def __init__(
        self,
        rows: Any,
        columns: Any,
        values: Any,
        shape: tuple[int, int] | None = None,
        *,
        weights: Any = None,
        duplicates: Literal["error", "first", "last", "mean", "sum"] = "error",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self._rows = torch.as_tensor(rows, device=device).to(torch.int64).clone()
        self._columns = torch.as_tensor(columns, device=device).to(torch.int64).clone()
        given = torch.as_tensor(values, device=device)
        if dtype is None:
            dtype = given.dtype if given.is_floating_point() else torch.float32
        self._values = given.to(dtype).clone()
        self._weights = None if weights is None else torch.as_tensor(weights, device=device).to(dtype).clone()
        if shape is None:
            shape = (int(self._rows.max()) + 1, int(self._columns.max()) + 1)
        self._shape = (int(shape[0]), int(shape[1]))

    rows = property(lambda self: self._rows)
    columns = property(lambda self: self._columns)
    values = property(lambda self: self._values)
    weights = property(lambda self: self._weights)
    shape = property(lambda self: self._shape)
    nnz = property(lambda self: self._values.numel())
    dtype = property(lambda self: self._values.dtype)
    device = property(lambda self: self._values.device)
    density = property(lambda self: self.nnz / (self._shape[0] * self._shape[1]))

    def __len__(self) -> int:
        return int(self._values.numel())

    def _subset(self, keep: torch.Tensor) -> Observations:
        return Observations(
            self._rows[keep], self._columns[keep], self._values[keep], self._shape,
            weights=None if self._weights is None else self._weights[keep],
        )

    def to(self, device: Any = None, dtype: torch.dtype | None = None) -> Observations:
        return Observations(
            self._rows, self._columns, self._values, self._shape,
            weights=self._weights, dtype=dtype or self.dtype, device=device,
        )

    def split(self, test_fraction: float, seed: int) -> tuple[Observations, Observations]:
        order = torch.randperm(self.nnz, generator=torch.Generator().manual_seed(seed))
        mask = torch.zeros(self.nnz, dtype=torch.bool)
        mask[order[: round(test_fraction * self.nnz)]] = True
        return self._subset(~mask), self._subset(mask)

    def transpose(self) -> Observations:
        return Observations(
            self._columns, self._rows, self._values, (self._shape[1], self._shape[0]), weights=self._weights
        )

    def with_values(self, values: Any, weights: Any = None) -> Observations:
        return Observations(self._rows, self._columns, values, self._shape, weights=weights)
