"""From row blocks to what a training run needs, in every process that trains on them."""

from __future__ import annotations

import time

import torch

from dmf_fast.cli.options import JobOptions
from dmf_fast.cli.problem import CompletionProblem, echo_bad_rows
from dmf_fast.completion import validation_folds
from dmf_fast.data import IdMap
from dmf_fast.data.block_files import COLUMN_IDS, read_blocks_facts
from dmf_fast.distributed import RowBlocks
from dmf_fast.sharding import RowSharding


def block_problem(options: JobOptions, sharding: RowSharding) -> CompletionProblem:
    """Open the row blocks of ``options``, of which each process has its own."""
    started, path = time.perf_counter(), options.ratings
    assert path is not None
    sharding.together(options.data.check_of_blocks)
    observed = RowBlocks.open(
        path,
        sharding.mesh,
        reproducible=options.data.reproducible,
        dtype=getattr(torch, options.data.dtype),
    )
    facts, column_ids = sharding.together(lambda: (read_blocks_facts(path), IdMap.load(path / COLUMN_IDS)))
    echo_bad_rows(path, facts.bad_rows)
    return CompletionProblem(
        observed,
        validation_folds(observed, options.completion),
        None,
        None,
        None,
        None,
        column_ids,
        str(path),
        facts.bad_rows.count,
        time.perf_counter() - started,
    )
