"""`python -m bench.reading`: ratings of MovieLens-20M's shape from files and from a store, and 100M entries.

138493 users, 27278 movies and 20M ratings, Zipf-skewed, with gaps between the ids, are written as CSV,
Parquet and as the text of the Netflix Prize. Every measurement is a fresh process: seconds to read and map,
to build observations and their layout, to open the store, and its peak memory compared with that of a process
that has only imported everything. Then Netflix's shape with 100M entries, from the store through one pass of
loss and gradients at h 64. Medians over `--rounds`. Files are in a temporary folder, in `--folder`, and are
deleted. Writes one JSON file. `--small` skips the 100M entries, which need 10 GB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import torch

from bench import machine
from bench.problems import NETFLIX, skewed
from bench.record import origin, results_file
from dmf_fast import completion_loss
from dmf_fast.data import as_ratings, load_ratings, open_ratings, read_ratings, save_ratings

MOVIELENS_20M = (138_493, 27_278, 20_000_000)
H = 64
FILES = ("ratings.csv", "ratings.parquet", "combined_data_1.txt")
TARGET_SECONDS = 20
TARGET_GIGABYTES = 24


def write_files(folder: Path, rows: int, columns: int, entries: int) -> None:
    """Write the same ratings in three formats."""
    problem = skewed(rows, columns, entries, h=1)
    generator = np.random.default_rng(1)
    days = generator.integers(9_000, 16_000, entries).astype(np.int32)
    ratings = {
        "userId": 3 * problem.rows.numpy() + 7,
        "movieId": 5 * problem.columns.numpy() + 1,
        "rating": generator.integers(1, 11, entries) / 2,
        "timestamp": days.astype(np.int64) * 86_400,
    }
    table = pa.table(ratings)
    pyarrow.csv.write_csv(table, folder / FILES[0])
    pq.write_table(table, folder / FILES[1])
    write_netflix_text(table, days, folder / FILES[2])


def write_netflix_text(table: pa.Table, days: np.ndarray, path: Path) -> None:
    """Write movie after movie."""
    lines = pa.table([table["userId"], table["rating"], pa.array(days, pa.date32())], names=list("abc"))
    order = pc.sort_indices(table["movieId"])
    lines, movies = lines.take(order).combine_chunks(), table["movieId"].take(order).to_numpy()
    starts = np.flatnonzero(np.diff(movies, prepend=-1))
    without_header = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    with path.open("wb") as file:
        for start, end in zip(starts, [*starts[1:], len(movies)], strict=True):
            file.write(f"{movies[start]}:\n".encode())
            pyarrow.csv.write_csv(lines.slice(start, end - start), file, without_header)


def write_movielens_files(folder: Path) -> dict[str, float]:
    """Write 20M ratings of MovieLens's shape in three formats."""
    start = time.perf_counter()
    write_files(folder, *MOVIELENS_20M)
    return {"write_seconds": time.perf_counter() - start}


def measure_import() -> dict[str, float]:
    """Nothing: what the others need beyond this is theirs."""
    return {}


def measure_file(path: Path) -> dict[str, float]:
    """Read and map a file, then build observations and their layout."""
    start = time.perf_counter()
    ratings = read_ratings(path)
    read = time.perf_counter()
    peak = peak_gigabytes()
    ratings.observations().layout()
    done = time.perf_counter()
    return {
        "read_and_map_seconds": read - start,
        "observations_and_layout_seconds": done - read,
        "all_seconds": done - start,
        "peak_gigabytes_when_read": peak,
    }


def measure_cache(path: Path) -> dict[str, float]:
    """Open a file whose store is there already, then build observations and their layout."""
    start = time.perf_counter()
    ratings = open_ratings(path, cache=path.with_name("cache"))
    opened = time.perf_counter()
    ratings.observations().layout()
    done = time.perf_counter()
    return {"open_seconds": opened - start, "observations_and_layout_seconds": done - opened}


def write_netflix_store(folder: Path) -> dict[str, float]:
    """Put 100M entries of Netflix's shape into a store."""
    problem = skewed(*NETFLIX, h=1)
    rows, columns = problem.rows.int().numpy(), problem.columns.int().numpy()
    start = time.perf_counter()
    ratings = as_ratings((rows, columns, problem.values.numpy()))
    mapped = time.perf_counter()
    save_ratings(ratings, folder / "netflix")
    return {"map_seconds": mapped - start, "save_seconds": time.perf_counter() - mapped}


def measure_netflix(folder: Path) -> dict[str, float]:
    """From the store through one pass of loss and gradients."""
    start = time.perf_counter()
    ratings = load_ratings(folder / "netflix")
    opened = time.perf_counter()
    observations = ratings.observations()
    entries = len(ratings)
    del ratings
    observations.layout()
    built = time.perf_counter()
    rows, columns = observations.shape
    generator = torch.Generator().manual_seed(0)
    factors = [
        torch.randn(*shape, generator=generator).div_(H**0.5).requires_grad_()
        for shape in ((H, columns), (rows, H))
    ]
    completion_loss(factors, observations).backward()
    passed = time.perf_counter()
    assert all(factor.grad is not None and bool(factor.grad.isfinite().all()) for factor in factors)
    return {
        "entries": entries,
        "open_seconds": opened - start,
        "observations_and_layout_seconds": built - opened,
        "first_pass_seconds": passed - built,
        "all_seconds": passed - start,
    }


STEPS: dict[str, Callable[..., dict[str, float]]] = {
    "import": measure_import,
    "write-files": write_movielens_files,
    "file": measure_file,
    "cache": measure_cache,
    "write-netflix": write_netflix_store,
    "netflix": measure_netflix,
}


def peak_gigabytes() -> float:
    """Return the peak of this program; that of getrusage would count the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e6


def in_fresh_process(step: str, *arguments: object) -> dict[str, float]:
    """Return what a step measures in a process of its own, and the peak of its memory."""
    command = [sys.executable, "-m", "bench.reading", "--step", step, *map(str, arguments)]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def medians(step: str, rounds: int, *arguments: object) -> dict[str, float]:
    runs = [in_fresh_process(step, *arguments) for _ in range(rounds)]
    return {name: median(run[name] for run in runs) for name in runs[0]}


def movielens_20m(folder: Path, rounds: int) -> dict[str, Any]:
    """Measure the three files and the store made of the first."""
    in_fresh_process("write-files", folder)
    report: dict[str, Any] = {"shape": MOVIELENS_20M[:2], "entries": MOVIELENS_20M[2]}
    for name in FILES:
        path = folder / name
        report[name] = {"megabytes": path.stat().st_size / 1e6} | medians("file", rounds, path)
    first = folder / FILES[0]
    report["store"] = {"first": in_fresh_process("cache", first), "second": medians("cache", rounds, first)}
    report["csv_in_20_s"] = report[FILES[0]]["all_seconds"] <= TARGET_SECONDS
    return report


def netflix_100m(folder: Path) -> dict[str, Any]:
    """Measure Netflix's shape from the store."""
    written = in_fresh_process("write-netflix", folder)
    trained = in_fresh_process("netflix", folder)
    return {
        "shape": NETFLIX[:2],
        "store": written,
        "trained": trained,
        "in_24_gigabytes": trained["peak_gigabytes"] <= TARGET_GIGABYTES,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=results_file("reading"))
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("path", type=Path, nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step is not None:
        measured = STEPS[arguments.step](*arguments.path)
        print(json.dumps(measured | {"peak_gigabytes": peak_gigabytes()}))
        return
    report: dict[str, Any] = {
        **origin(),
        "machine": machine.measure(torch.get_num_threads()).as_dict(),
        "import": in_fresh_process("import"),
    }
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        report["movielens_20M"] = movielens_20m(Path(folder), arguments.rounds)
    if not arguments.small:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            report["netflix_100M"] = netflix_100m(Path(folder))
    print(json.dumps(report, indent=1))
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
