"""The columns that every row has seen, which are not recommended to it again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from dmf_fast.data.errors import DataError
from dmf_fast.files.reading import reading, record_of
from dmf_fast.files.tensors import load_tensors, save_tensors
from dmf_fast.observations import Observations
from dmf_fast.observations.compression import compressed_rows
from dmf_fast.serving.indices import checked_indices
from dmf_fast.serving.top_columns import seen_entries

SEEN_KIND = "dmf_fast seen columns"


@dataclass(frozen=True, eq=False)
class SeenColumns:
    """Columns by row, in compressed sparse rows: row i has ``columns[offsets[i]:offsets[i + 1]]``, ascending.

    Attributes:
        offsets: ``(m + 1,)``, int64, contiguous.
        columns: ``(nnz,)``, int32, contiguous.
        shape: ``(m, n)``, rows and columns of the matrix.

    Raises:
        ValueError: the arrays do not describe such lists.

    Example:
        >>> SeenColumns.of(Observations([1, 0, 1], [2, 0, 1], [5.0, 3.0, 4.0])).columns
        tensor([0, 1, 2], dtype=torch.int32)

    """

    offsets: Tensor
    columns: Tensor
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        problem = _problem_with(self.offsets, self.columns, self.shape)
        if problem is not None:
            raise ValueError(
                f"`offsets` and `columns` must describe a matrix of shape {self.shape}: {problem}"
            )

    @classmethod
    def of(cls, observations: Observations) -> SeenColumns:
        """Return the columns of the observed entries; of row blocks, those of the rows of this process."""
        parts = [cls.of_pairs(*part.coordinates(), part.shape) for part in observations.parts]
        if len(parts) == 1:
            return parts[0]
        counts = torch.cat([part.offsets.diff() for part in parts])
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        shape = (len(counts), observations.shape[1])
        return cls(offsets, torch.cat([part.columns for part in parts]), shape)

    @classmethod
    def of_pairs(cls, rows: Any, columns: Any, shape: tuple[int, int]) -> SeenColumns:
        """Return the columns of pairs of indices.

        Args:
            rows: integers from 0 to m-1, ``(nnz,)``, in any order.
            columns: integers from 0 to n-1, ``(nnz,)``. Repeated pairs count once.
            shape: ``(m, n)``, numbers of rows and columns.

        Raises:
            TypeError: the indices are not integers.
            ValueError: they are not one-dimensional, or differ in length.
            IndexError: an index is out of range.

        Example:
            >>> SeenColumns.of_pairs([1, 1, 1], [2, 0, 2], (2, 3)).offsets
            tensor([0, 0, 2])

        """
        rows, columns = checked_indices("rows", rows, shape[0]), checked_indices("columns", columns, shape[1])
        if rows.shape != columns.shape:
            raise ValueError(
                f"`rows` and `columns` must have the same length, got {len(rows)} and {len(columns)}"
            )
        offsets, in_order = compressed_rows(rows.numpy(), columns.numpy(), shape)
        return cls(
            torch.from_numpy(offsets),
            torch.from_numpy(in_order.astype(np.int32)),
            (int(shape[0]), int(shape[1])),
        )

    @classmethod
    def read_parquet(cls, path: str | Path, shape: tuple[int, int]) -> SeenColumns:
        """Return the pairs of a Parquet file with the integer columns ``row`` and ``column``.

        Raises a `DataError` if the file cannot be read or a pair is outside the matrix.
        """
        import pyarrow.parquet as pq  # here, as it is slow to import

        try:
            pairs = pq.read_table(path, columns=["row", "column"])
            rows, columns = (pairs.column(name).to_numpy() for name in ("row", "column"))
            return cls.of_pairs(rows, columns, shape)
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(
                f"{path} does not hold the pairs (row, column) of a matrix of shape {shape} ({error}); train "
                "the model again"
            ) from error

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return the columns of some rows, concatenated.

        Args:
            rows: int64, ``(rows,)``, from 0 to m-1, in any order.

        Returns:
            int32, ``(nnz,)``, of all entries of these rows.

        Raises:
            IndexError: a row is out of range.

        Example:
            >>> SeenColumns.of_pairs([0, 1, 1], [2, 0, 1], (2, 3)).of_rows(torch.tensor([1, 0]))
            tensor([0, 1, 2], dtype=torch.int32)

        """
        return seen_entries(rows, self.offsets, self.columns)[1]

    def within(self, rows: Tensor, columns: Tensor) -> SeenColumns:
        """Return what some rows have seen of some columns; both are renumbered by position.

        Args:
            rows: int64, ``(rows,)``, from 0 to m-1, in any order.
            columns: int64, ``(columns,)``, from 0 to n-1, ascending.

        Returns:
            Seen columns of shape ``(rows, columns)``. The work is proportional to n and to what the rows
            have seen.

        Raises:
            IndexError: a row or a column is out of range.

        Example:
            >>> seen = SeenColumns.of_pairs([0, 1, 1], [2, 0, 2], (2, 3))
            >>> seen.within(torch.tensor([1]), torch.tensor([1, 2])).columns
            tensor([1], dtype=torch.int32)

        """
        position = columns.new_full((self.shape[1],), -1)
        position[columns] = torch.arange(len(columns), device="cpu")
        places, entries = seen_entries(rows, self.offsets, self.columns)
        found = position[entries.long()]
        counts = torch.bincount(places[found >= 0], minlength=len(rows))
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return SeenColumns(offsets, found[found >= 0].int(), (len(rows), len(columns)))

    def save(self, path: str | Path) -> None:
        """Write a safetensors file that `load` maps; it appears once it is complete."""
        # 8-byte numbers first, so that they are aligned in the file.
        tensors = {"offsets": self.offsets, "columns": self.columns}
        save_tensors(tensors, Path(path), SEEN_KIND, json.dumps(self.shape))

    @classmethod
    def load(cls, path: str | Path, *, checked: bool = False) -> SeenColumns:
        """Return seen columns written by `save`, memory-mapped: pages are read as they are needed.

        ``checked``: whether the file has already been compared with a digest.

        Raises a `DataError` if the file is of another kind or damaged.
        """
        with reading(path, "a file of seen columns", "write it with SeenColumns.save", DataError):
            tensors, text = load_tensors(Path(path), SEEN_KIND, checked=checked)
            return cls(**tensors, shape=record_of(text, tuple[int, int]))


def _problem_with(offsets: Tensor, columns: Tensor, shape: tuple[int, int]) -> str | None:
    """Return what is wrong, or None: kernels trust these arrays."""
    if len(shape) != 2 or min(shape) < 0:
        return "`shape` must be two numbers of at least 0"
    if offsets.dtype != torch.int64 or offsets.shape != (shape[0] + 1,) or not offsets.is_contiguous():
        return f"`offsets` must be {shape[0] + 1} contiguous int64 numbers"
    if columns.dtype != torch.int32 or columns.dim() != 1 or not columns.is_contiguous():
        return "`columns` must be contiguous int32 numbers, one-dimensional"
    if offsets.device.type != "cpu" or columns.device.type != "cpu":
        return "`offsets` and `columns` must be on the CPU"
    nnz = len(columns)
    if offsets[0] != 0 or offsets[-1] != nnz or (offsets[1:] < offsets[:-1]).any():
        return f"`offsets` must rise from 0 to the number of columns, {nnz}"
    if nnz == 0:
        return None
    if columns.min() < 0 or columns.max() >= shape[1]:
        return f"`columns` must be from 0 to {shape[1] - 1}"
    rises = columns[1:] > columns[:-1]
    begins = offsets[1:-1]
    rises[begins[(begins > 0) & (begins < nnz)] - 1] = True  # the first column of a row may be lower
    return None if bool(rises.all()) else "the columns of a row must rise"
