"""`python -m bench.at_scale`: `dmf-fast complete` on ratings of Netflix's shape, from a file to the model.

Draws the ratings with `movielens_like`, which takes minutes and 10 GB for 100 million, and writes nine tenths
of them to `--file`, a Parquet file, unless it exists. Then runs the command with the given options and
records its seconds, peak memory and output. Writes one JSON file.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.rating_problems import SIZES
from bench.record import origin, results_file
from bench.synthetic_ratings import movielens_like


def write(file: Path, size: str) -> None:
    """Write the training ratings of a size."""
    shape, entries = SIZES[size]
    rows, columns, values = movielens_like(shape, entries, 0)  # in a random order
    kept = slice(entries // 10, None)
    table = {
        "user": rows[kept].astype(np.int32),
        "item": columns[kept].astype(np.int32),
        "rating": values[kept].astype(np.float32),
    }
    pq.write_table(pa.table(table), file)


def completed(file: Path, options: list[str]) -> dict[str, Any]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "dmf_fast.cli", "complete", str(file), "--json", *options]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        done = subprocess.run(
            [*command, "--out", str(Path(folder) / "model")], capture_output=True, text=True, check=True
        )
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {
        "options": options,
        "seconds": seconds,
        "peak_bytes": peak,
        "progress": done.stderr.splitlines(),
        "results": json.loads(done.stdout),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="100M")
    parser.add_argument("--file", type=Path, default=Path("ratings.parquet"))
    parser.add_argument("--output", type=Path, default=results_file("at-scale"))
    parser.add_argument("options", nargs="*", default=["--preset", "fast"])
    arguments = parser.parse_args()
    if not arguments.file.exists():
        write(arguments.file, arguments.size)
    report = {**origin(), "size": arguments.size, **completed(arguments.file, arguments.options)}
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{report['seconds']:.1f} s, {report['peak_bytes'] / 1e9:.2f} GB")
    print("\n".join(report["progress"]), json.dumps(report["results"]), sep="\n")


if __name__ == "__main__":
    main()
