"""Held-out ratings, read by all processes, distributed to the processes that have their rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from dmf_fast.data.id_map import IdMap
from dmf_fast.data.ratings import Ratings
from dmf_fast.distributed.row_blocks import RowBlocks
from dmf_fast.distributed.row_ids import RowIds
from dmf_fast.evaluation.held_out import HeldOut
from dmf_fast.files.identity import sha256_of
from dmf_fast.observations import Observations
from dmf_fast.observations.duplicates import Duplicates
from dmf_fast.sharding import row_offsets


@dataclass(frozen=True, eq=False)
class HeldOutShards:
    """Held-out ratings of a file of their own; every process must have read the same ones.

    Attributes:
        ratings: all of them.
        rows: ``(len(ratings),)``, int64: their rows in the whole matrix, -1 for ids that no process has.
        columns: ``(len(ratings),)``, int64: their columns, -1 for ids that the training ratings lack.
        observed: the training entries.

    """

    ratings: Ratings
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    observed: RowBlocks

    @classmethod
    def of(cls, ratings: Ratings, observed: RowBlocks, row_ids: RowIds, column_ids: IdMap) -> HeldOutShards:
        """Find the rows and columns of the ratings in the training matrix; a collective operation.

        Args:
            ratings: read with text ids if the training ratings have text ids.
            observed: the training entries.
            row_ids: ids of the rows of this process.
            column_ids: ids of all columns.

        """
        here = row_ids.indices(ratings.row_ids.ids)
        # The row plus one, in the one process that has it, so that 0 means none.
        places = np.where(here >= 0, here + _first_row(observed) + 1, 0)
        observed.sharding.add_up_arrays([places])
        columns = column_ids.indices(ratings.column_ids.ids)
        return cls(ratings, (places - 1)[ratings.rows], columns[ratings.columns], observed)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether both ids are known to any process, shape ``(len(ratings),)``."""
        known: NDArray[np.bool_] = (self.rows >= 0) & (self.columns >= 0)
        return known

    def held_out(self) -> HeldOut:
        """Return the ratings of the rows of this process, by local row; process 0 also gets unknown rows."""
        own = self._is_here if self.observed.sharding.rank else self._is_here | (self.rows < 0)
        rows = np.where(self.rows[own] >= 0, self.rows[own] - _first_row(self.observed), -1)
        return HeldOut(rows, self.columns[own], self.ratings.values[own].astype(np.float64))

    def row_blocks(self, duplicates: Duplicates = "error") -> RowBlocks:
        """Return the ratings with known ids, distributed like the training entries.

        Raises a `ValueError` in the process that has a repeated pair if ``duplicates`` is ``"error"``;
        `Ratings.refuse_duplicates` raises it in all processes.
        """
        own = self._is_here & (self.columns >= 0)
        rows, columns = self.rows[own] - _first_row(self.observed), self.columns[own]
        values = self.ratings.values[own]
        parts = self.observed.parts
        begins = row_offsets(parts)
        of_parts = []
        for part, begin, end in zip(parts, begins[:-1], begins[1:], strict=True):
            chosen = (rows >= begin) & (rows < end)
            entries = rows[chosen] - begin, columns[chosen], torch.from_numpy(values[chosen])
            of_parts.append(
                Observations(
                    *entries, part.shape, duplicates=duplicates, dtype=part.dtype, device=part.device
                )
            )
        return self.observed._with(of_parts, f"rows of {self._digest} {duplicates}")

    @cached_property
    def _is_here(self) -> NDArray[np.bool_]:
        """Whether the row of each rating is in this process."""
        first = _first_row(self.observed)
        rows: NDArray[np.bool_] = (self.rows >= first) & (
            self.rows < first + sum(part.shape[0] for part in self.observed.parts)
        )
        return rows

    @property
    def _digest(self) -> str:
        """Digest of the ratings, the same in all processes."""
        arrays = self.rows, self.columns, self.ratings.values
        return sha256_of(*(torch.from_numpy(np.ascontiguousarray(one)) for one in arrays))


def _first_row(observed: RowBlocks) -> int:
    """Return the index of the first row of this process in the whole matrix."""
    return observed.first_block * observed.rows_a_block
