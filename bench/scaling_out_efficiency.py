"""`python -m bench.scaling_out_efficiency`: two processes against two threads, and what `reproducible` costs.

Two processes over the loopback, one thread each, take turns with one process of two threads on the same 10M
entries: the second waits asleep meanwhile. Then, in one process of two threads, steps of `RowBlocks` with
``reproducible`` and without, for numbers of blocks and entries of a block for each column. `fit`, natively,
adaptive gradient descent, two factors, h 64, float32; medians. About four minutes. Writes one JSON file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh

from bench import machine
from bench.record import origin, results_file
from bench.scaling_out_network import run_ranks
from bench.scaling_out_rank import Case, in_turns, part_of, steps_of
from dmf_fast.distributed import RowBlocks, row_blocks

CASES = (Case(100_000, 10_000, 10_000_000), Case(48_000, 17_770, 10_000_000))
TARGET = 85  # percent
ROUNDS = 7
COLUMNS = 4_000
BLOCKS = (4, 16, 64)
ENTRIES_A_COLUMN = (2, 5, 10, 20, 50)
ENTRIES_A_ROW = 100


def efficiency(case: Case) -> dict[str, Any]:
    """Compare both in turns; rank 0 is also the process of two threads."""
    rank, size = distributed.get_rank(), distributed.get_world_size()
    together = steps_of(RowBlocks([part_of(case, rank, size)], init_device_mesh("cpu", (size,))))
    whole = None
    if rank == 0:
        whole = steps_of(RowBlocks([part_of(case, other, size) for other in range(size)]))

    def by_one(steps: int) -> float:
        torch.set_num_threads(size)
        seconds = 0.0 if whole is None else whole(steps)
        torch.set_num_threads(1)
        distributed.barrier()
        return seconds

    seconds = in_turns({"together": together, "whole": by_one}, ROUNDS)
    if whole is None:
        return {}
    percent = 100 * seconds["whole"] / seconds["together"]
    return {**asdict(case), "processes": size, "seconds": seconds, "percent": percent, "target": TARGET}


def cost_of_blocks(blocks: int, entries_a_column: int, columns: int = COLUMNS) -> dict[str, Any]:
    """Return how much longer a step takes where every block is swept alone."""
    entries = entries_a_column * columns
    case = Case(max(1, entries // ENTRIES_A_ROW), columns, entries)
    drawn = [part_of(case, block, 1, seed=block) for block in range(blocks)]
    seconds = in_turns(
        {
            "merged": steps_of(RowBlocks(drawn)),
            "reproducible": steps_of(RowBlocks(drawn, reproducible=True)),
        }
    )
    return {
        "blocks": blocks,
        "columns": columns,
        "entries_a_block_and_column": entries_a_column,
        "seconds": seconds,
        "percent_more": 100 * (seconds["reproducible"] / seconds["merged"] - 1),
    }


def costs_of_blocks() -> Iterator[dict[str, Any]]:
    torch.set_num_threads(2)
    row_blocks.LEAST_ENTRIES_PER_COLUMN = 0
    for blocks, entries in product(BLOCKS, ENTRIES_A_COLUMN):
        yield cost_of_blocks(blocks, entries)


def ranks_main(what: str) -> None:
    """Measure as one of the processes; rank 0 prints."""
    distributed.init_process_group("gloo")
    for found in map(efficiency, CASES) if what == "efficiency" else costs_of_blocks():
        print(json.dumps(found), flush=True)
    distributed.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("efficiency", "reproducible"))
    parser.add_argument("--output", type=Path, default=results_file("scaling-out-efficiency"))
    parser.add_argument("--rank", choices=("efficiency", "reproducible"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank is not None:
        ranks_main(arguments.rank)
        return
    report: dict[str, Any] = {**origin(), "machine": machine.measure(2).as_dict()}
    for what, processes in {"efficiency": 2, "reproducible": 1}.items():
        if arguments.only not in (None, what):
            continue
        report[what] = []
        for found in run_ranks("bench.scaling_out_efficiency", ["--rank", what], [None] * processes):
            report[what].append(found)
            print(json.dumps(found), flush=True)
    if arguments.only is None:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
