"""Row blocks as a completion problem, in every process that trains on them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from dmf_fast.cli.options import JobOptions
from dmf_fast.cli.problem import (
    CompletionProblem,
    echo_bad_rows,
    no_known_pair,
    read_held_out,
    refuse_unknown,
)
from dmf_fast.completion import validation_folds
from dmf_fast.completion.folds import Parts
from dmf_fast.data import IdMap
from dmf_fast.data.block_files import BlocksFacts, read_blocks_facts
from dmf_fast.distributed import RowBlocks
from dmf_fast.distributed.held_out_shards import HeldOutShards
from dmf_fast.distributed.row_ids import RowIds, read_column_ids
from dmf_fast.sharding import RowSharding


def block_problem(options: JobOptions, sharding: RowSharding) -> CompletionProblem:
    """Open the row blocks of this process and read the test and validation ratings.

    Raises a `DataError` or a `ValueError` in all processes if the data cannot be used.
    """
    started, path = time.perf_counter(), options.ratings
    assert path is not None
    sharding.together(options.data.check_of_blocks)
    observed = RowBlocks.open(
        path,
        sharding.mesh,
        reproducible=options.data.reproducible,
        dtype=getattr(torch, options.data.dtype),
    )
    reader = sharding.together(lambda: _HeldOutReader.of(options, path, observed))
    test = reader.others(options.data.test)
    return CompletionProblem(
        observed,
        reader.folds(),
        None if test is None else test.held_out(),
        reader.known_of(test),
        None,
        None,
        reader.column_ids,
        str(path),
        reader.bad_rows,
        time.perf_counter() - started,
    )


@dataclass
class _HeldOutReader:
    """Reads test and validation ratings; every process reads all of them."""

    options: JobOptions
    path: Path
    observed: RowBlocks
    facts: BlocksFacts
    row_ids: RowIds
    column_ids: IdMap
    bad_rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.bad_rows = self.facts.bad_rows.count
        echo_bad_rows(self.path, self.facts.bad_rows)

    @classmethod
    def of(cls, options: JobOptions, path: Path, observed: RowBlocks) -> _HeldOutReader:
        ids = RowIds.of(observed, path), read_column_ids(path)
        return cls(options, path, observed, read_blocks_facts(path), *ids)

    def others(self, path: Path | None) -> HeldOutShards | None:
        """Return the ratings of another file, indexed by the rows and columns of the blocks."""
        if path is None:
            return None
        data, sharding = self.options.data, self.observed.sharding
        ratings = sharding.together(lambda: read_held_out(path, data, self.row_ids.map, self.column_ids))
        self.bad_rows += ratings.bad_rows.count
        shards = HeldOutShards.of(ratings, self.observed, self.row_ids, self.column_ids)
        if data.unknown == "raise":
            sharding.together(lambda: refuse_unknown(ratings, shards.known, str(self.path)))
        return shards

    def known_of(self, shards: HeldOutShards | None) -> RowBlocks | None:
        """Return the ratings whose ids are known, or None if there are none."""
        if shards is None or not shards.known.any():
            return None
        return shards.row_blocks(self.options.data.duplicates)

    def folds(self) -> list[Parts]:
        """Return the folds of the search: training and validation entries."""
        path = self.options.data.validation
        if path is None:
            return validation_folds(self.observed, self.options.completion)
        validation = self.known_of(self.others(path))
        if validation is None:
            self.observed.sharding.together(lambda: self._refuse(path))
        assert validation is not None
        return [(self.observed, validation)]

    def _refuse(self, path: Path) -> None:
        raise no_known_pair(path, self.path)
