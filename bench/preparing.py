"""`python -m bench.preparing`: seconds, peak memory and balance of `dmf-fast prepare` under a memory limit.

Draws skewed ratings without repeated pairs, in a random order: 100,000 users x 20,000 items with text ids as
CSV, and Netflix's shape (480,189 x 17,770) as Parquet. Each run is a separate process that is limited by
`RLIMIT_DATA`. That also counts reserved memory, such as stacks of threads, so it is above the intended peak.
Files are kept in `--folder`. Writes one JSON file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from bench.problems import NETFLIX
from bench.record import origin, results_file
from bench.synthetic_ratings import Population, _activity
from dmf_fast.data.block_files import read_blocks_facts

PROGRAM = """
import atexit, resource, sys
limit = int(sys.argv.pop(1)) << 20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
from dmf_fast.cli.app import main

def report():
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    print("peak kB", lines["VmHWM"].split()[0], file=sys.stderr)

atexit.register(report)
main()
"""
AT_ONCE = 5_000_000


@dataclass(frozen=True)
class Case:
    """Ratings, and what their preparation is to stay within."""

    name: str
    shape: tuple[int, int]
    entries: int
    text: bool
    blocks: tuple[int, ...]
    megabytes: int
    limit: int
    seconds: float | None = None


CASES = (
    Case("5M text", (100_000, 20_000), 5_000_000, True, (64, 16), 400, 800, 15.0),
    Case("20M", NETFLIX[:2], 20_000_000, False, (16,), 2000, 4000),
    Case("100M", NETFLIX[:2], 100_000_000, False, (16,), 2000, 4000),
)


def drawn(shape: tuple[int, int], entries: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield distinct pairs, about so many: rows as active as those of `movielens_like`, columns by a walk.

    Row i has the columns ``a + k b`` modulo a prime that are below the number of columns, so that no pair
    has to be remembered. A piece has the k-th columns of all rows that have that many.
    """
    random = np.random.default_rng(0)
    rows, columns = shape
    degrees = _activity(rows, columns, entries, Population(), random)
    prime = next(p for p in range(columns, 2 * columns) if all(p % q for q in range(2, int(p**0.5) + 1)))
    start, step = random.integers(0, prime, rows), random.integers(1, prime, rows)
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    held = 0
    for k in range(int(degrees.max() * prime / columns) + 2):
        alive = np.flatnonzero(k * columns < degrees * prime)
        items = (start[alive] + k * step[alive]) % prime
        kept = items < columns
        waiting.append((alive[kept], items[kept]))
        held += int(kept.sum())
        if held >= AT_ONCE:
            yield _shuffled(waiting, random)
            waiting, held = [], 0
    yield _shuffled(waiting, random)


def _shuffled(
    waiting: list[tuple[np.ndarray, np.ndarray]], random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
    order = random.permutation(len(rows))
    return rows[order], columns[order]


def write(case: Case, path: Path) -> None:
    """Write the ratings of a case."""
    random = np.random.default_rng(1)
    kind = pa.string() if case.text else pa.int32()
    schema = pa.schema({"user": kind, "item": kind, "rating": pa.float32()})
    open_file: Callable[..., Any] = csv.CSVWriter if case.text else pq.ParquetWriter
    with open_file(path, schema) as file:
        for rows, columns in drawn(case.shape, case.entries):
            values = pa.array(random.integers(1, 6, len(rows)).astype(np.float32))
            ids = [_ids(side, letter, text=case.text) for side, letter in ((rows, "u"), (columns, "i"))]
            file.write_table(pa.table([*ids, values], schema=schema))


def _ids(indices: np.ndarray, letter: str, *, text: bool) -> pa.Array:
    if not text:
        return pa.array(indices.astype(np.int32))
    names = pa.array([f"{letter}{index:08x}" for index in range(int(indices.max()) + 1)])
    return names.take(pa.array(indices))


def measured(case: Case, source: Path, blocks: int, out: Path) -> dict[str, Any]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, str(case.limit), "prepare", str(source), "--out", str(out)]
    command += ["--overwrite", "--blocks", str(blocks), "--memory", str(case.megabytes)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(done.stderr)
    facts = read_blocks_facts(out)
    return {
        "case": case.name,
        "entries": facts.entries,
        "shape": [facts.rows, facts.columns],
        "blocks": blocks,
        "memory_megabytes": case.megabytes,
        "rlimit_data_megabytes": case.limit,
        "seconds": seconds,
        "seconds_aimed_at": case.seconds,
        "peak_megabytes": int(done.stderr.split("peak kB")[1]) / 1024,
        "largest_to_mean": max(facts.block_entries) * blocks / facts.entries,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="*", choices=[case.name for case in CASES], default=["5M text"])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=results_file("preparing"))
    arguments = parser.parse_args()
    runs = []
    for case in (case for case in CASES if case.name in arguments.cases):
        source = arguments.folder / f"{case.name.replace(' ', '-')}{'.csv' if case.text else '.parquet'}"
        if not source.exists():
            write(case, source)
        for blocks in case.blocks:
            runs.append(measured(case, source, blocks, arguments.folder / "prepared.blocks"))
            print(json.dumps(runs[-1]))
    arguments.output.write_text(json.dumps({**origin(), "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
