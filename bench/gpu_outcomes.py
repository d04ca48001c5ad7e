"""What the parts of bench/gpu_first.py have left in their folder so far."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.gpu_targets import outcomes

KINDS = ("passed", "failed", "skipped")
SUMMARY = re.compile(r"(?:ERROR|RACECHECK) SUMMARY: (.*)")


def collect(folder: Path) -> dict[str, Any]:
    """Return what every part has found, by the names of its files, and the targets."""
    report = {file.stem: read(file.read_text()) for file in sorted(folder.glob("*.json"))}
    report |= {file.stem: tests(file.read_text()) for file in folder.glob("*.outcomes")}
    report |= {f"hung {file.stem}": text for file in folder.glob("*.hung") if (text := file.read_text())}
    report |= {file.stem: kernels(file.read_text().splitlines()) for file in folder.glob("*.csv")}
    report |= {file.stem: SUMMARY.findall(file.read_text()) for file in folder.glob("*.sanitizer")}
    return report | {"targets": outcomes(report)}


def read(text: str) -> Any:
    """Read a JSON, which a part that was stopped may have left unfinished."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"unfinished": text}


def tests(lines: str) -> dict[str, Any]:
    """Return counts of tests, what failed and what was slow, from a JSON a line."""
    ended = [json.loads(line) for line in lines.splitlines()]
    slowest = sorted(ended, key=lambda one: -one["seconds"])[:10]
    return {
        **{kind: sum(one["outcome"] == kind for one in ended) for kind in KINDS},
        "names_of_failed": {one["test"]: one["message"] for one in ended if one["outcome"] == "failed"},
        "slowest": {one["test"]: one["seconds"] for one in slowest},
    }


def kernels(lines: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the metrics of every kernel, by its place and name, from the CSV among a profiler's lines."""
    found: dict[str, dict[str, str]] = {}
    for row in csv.DictReader(line for line in lines if line.startswith('"')):
        metrics = found.setdefault(f"{row['ID']} {row['Kernel Name']}", {})
        if row.get("Metric Name"):
            metrics[row["Metric Name"]] = f"{row['Metric Value']} {row['Metric Unit']}".strip()
    return found


def mismatches(wrong: Iterable[dict[str, str]]) -> Iterator[str]:
    """Yield a line for every operator and dtype that is wrong: how often, and the first time."""
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for case in wrong:
        groups.setdefault((case["dtype"], operator_of(case["case"])), []).append(case)
    for (dtype, _), cases in groups.items():
        yield f"WRONG {dtype:<8} {len(cases)} times: {cases[0]['case']}: {cases[0]['problem']}"


def operator_of(case: str) -> str:
    """Return the operator or the kind of run in the name of a case."""
    return re.split(r" of \d| by ", case)[0]


def summary(report: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that say most: parts, what is wrong or failed, libraries side by side, targets."""
    for name, part in report["parts"].items():
        yield f"{name:<10} {part['outcome']} in {part['seconds']} seconds"
    yield from mismatches(report.get("operators", {}).get("wrong", []))
    for part in (part for part in ("tests", "failed") if part in report):
        yield f"{part}: {', '.join(f'{report[part][kind]} {kind}' for kind in KINDS)}"
        for test, message in report[part]["names_of_failed"].items():
            yield f"FAILED {test}: {message.partition(chr(10))[0][:100]}"
    for part, found in report.items():
        if part.startswith("sweep of "):
            for case in found.get("cases", []):
                times = case.get("milliseconds", {}).items()
                yield f"{part}, {case['problem']}: " + ", ".join(
                    f"{name} {time:.4f} ms" for name, time in times
                )
    for target in report["targets"]:
        if target["measured"] is not None:
            yield f"{target['outcome']:<6} {target['target']}: {target['measured']:.3g} ({target['wanted']})"
