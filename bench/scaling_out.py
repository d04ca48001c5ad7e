"""`python -m bench.scaling_out`: a step of `fit` in 1, 2 and 4 processes over slow links, against a model.

Each process is in a network namespace of its own, whose link is limited to 1 or 4 Gb/s (by a token-bucket
filter), which needs root. Native adaptive gradient descent, two factors, h 64, float32. The model::

    t = sweep + memory + 2(W − 1)/W · 4hn / bandwidth + messages · scalar

Sweep and memory, which is the rest of a step alone, are measured in all processes at once, so that they share
the cores as in the run; a scalar is a sum of a few numbers over the processes; the bandwidth is that of the
filter, minus TCP headers. About four minutes. Writes one JSON file. `--table` prints, from such a file, the
predictions of the model for larger machines and matrices, in Markdown, for `docs/distributed.md`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bench import scaling_out_network as network
from bench.record import origin, results_file
from bench.scaling_out_rank import CASES, H

PROCESSES = (2, 4)
GIGABITS = (1.0, 4.0)
# Of the table: matrices with as many entries a row as Netflix's, on machines with this many of the cores.
CORES = 16
ENTRIES_A_ROW = 200
POWERS = {1e8: "10⁸", 1e9: "10⁹", 1e10: "10¹⁰"}
TABLE = tuple(product(POWERS, (17_770, 100_000, 1_000_000, 10_000_000)))
TABLE_GIGABITS = (10, 25, 100, 400)
TABLE_MACHINES = (4, 16)


def link_seconds(processes: int, columns: int, gigabits: float) -> float:
    """Return the seconds that the gradient of the first factor is on every link, in a ring.

    >>> round(link_seconds(2, 100_000, 1.0), 3)
    0.214
    """
    sent = 2 * (processes - 1) / processes * 4 * H * columns
    return sent * 8 / (gigabits * 1e9 * network.PAYLOAD)


def with_model(found: dict[str, Any], gigabits: float) -> dict[str, Any]:
    """Add to what rank 0 has measured the terms of the model, and how far the measured step is from it."""
    large = found["large_messages_a_step"]
    link = large * link_seconds(found["processes"], found["columns"], gigabits)
    scalars = (found["messages_a_step"] - large) * found["scalar_seconds"]
    model = found["alone_seconds"] + link + scalars
    return found | {
        "gigabits": gigabits,
        "memory_seconds": found["alone_seconds"] - found["sweep_seconds"],
        "link_seconds": link,
        "scalars_seconds": scalars,
        "model_seconds": model,
        "percent_off": 100 * (found["step_seconds"] / model - 1),
        "link_binds": link > model / 2,
    }


def measured(cases: list[str], counts: list[int]) -> Iterator[dict[str, Any]]:
    """Measure one process, then several with every filter."""
    yield from network.run_ranks("bench.scaling_out_rank", cases, [None])
    for processes, gigabits in product([count for count in counts if count > 1], GIGABITS):
        with network.machines(processes, gigabits) as names:
            for found in network.run_ranks("bench.scaling_out_rank", cases, names):
                yield with_model(found, gigabits)


def line(found: dict[str, Any]) -> str:
    """Return a measurement as a line to read."""
    shape = f"{found['rows']:,} × {found['columns']:,}, {found['entries'] / 1e6:g}M"
    terms = [f"{shape}, W = {found['processes']}: a step {1e3 * found['step_seconds']:.1f} ms"]
    if "model_seconds" in found:
        names = ("sweep", "memory", "link", "scalars")
        sums = " + ".join(f"{name} {1e3 * found[f'{name}_seconds']:.1f}" for name in names)
        binds = ", the link binds" if found["link_binds"] else ""
        terms.append(f"{found['gigabits']:g} Gb/s, model {1e3 * found['model_seconds']:.1f} = {sums}")
        terms.append(f"off by {found['percent_off']:+.1f} %{binds}")
    return "; ".join(terms)


@dataclass(frozen=True)
class Machine:
    """Seconds of a machine for an entry in the sweep, and for a number of the factors otherwise."""

    entry: float
    number: float

    @classmethod
    def of(cls, cases: list[dict[str, Any]]) -> Machine:
        """Return `CORES` times the core of a report that fits its steps in one process best."""
        alone = [one for one in cases if one["processes"] == 1]
        terms = [(one["entries"], H * (one["rows"] + one["columns"])) for one in alone]
        relative = np.array(terms) / np.array([[one["alone_seconds"]] for one in alone])
        entry, number = np.linalg.lstsq(relative, np.ones(len(alone)), rcond=None)[0].tolist()
        return cls(entry / CORES, number / CORES)

    def step_seconds(self, entries: float, columns: int, machines: int = 1, gigabits: float = 1.0) -> float:
        """Return what the model says of a step on so many of them; scalars are left out."""
        rows = entries / ENTRIES_A_ROW / machines
        alone = self.entry * entries / machines + self.number * H * (rows + columns)
        return alone + link_seconds(machines, columns, gigabits)


def table(report: dict[str, Any]) -> str:
    """Return how many times faster the model says that several machines are than one, in Markdown."""
    machine = Machine.of(report["cases"])
    heads = [f"{count} machines, {rate} Gb/s" for count in TABLE_MACHINES for rate in TABLE_GIGABITS]
    lines = [f"| entries | columns | one machine, s a step | {' | '.join(heads)} |"]
    lines.append("| ---: |" + " ---: |" * (len(heads) + 2))
    for entries, columns in TABLE:
        alone = machine.step_seconds(entries, columns)
        cells = [POWERS[entries], f"{columns:,}", f"{alone:.2g}"]
        for count, rate in product(TABLE_MACHINES, TABLE_GIGABITS):
            faster = alone / machine.step_seconds(entries, columns, count, rate)
            cells.append(f"**{faster:.1f}**" if faster >= count / 2 else f"{faster:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--processes", nargs="+", type=int, default=list(PROCESSES))
    parser.add_argument("--output", type=Path, default=results_file("scaling-out"))
    parser.add_argument("--table", type=Path, help="print the table from such a file, and measure nothing")
    arguments = parser.parse_args()
    if arguments.table is not None:
        print(table(json.loads(arguments.table.read_text("utf-8"))))
        return
    missing = network.missing()
    if missing is not None:
        print(f"skipped: {missing}")
        return
    report: dict[str, Any] = {**origin(), "cases": []}
    for found in measured(arguments.cases, arguments.processes):
        report["cases"].append(found)
        print(line(found), flush=True)
        arguments.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
