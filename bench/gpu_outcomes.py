"""The outcomes that the parts of bench/gpu_first.py have written so far."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.gpu_targets import outcomes

KINDS = ("passed", "failed", "skipped")


def collect(folder: Path) -> dict[str, Any]:
    """Return what every part has found, by the names of its files, and the targets."""
    report = {file.stem: read(file) for kind in READERS for file in sorted(folder.glob(f"*{kind}"))}
    report |= {f"hung {file.stem}": text for file in folder.glob("*.hung") if (text := file.read_text())}
    return report | {"targets": outcomes(report)}


def read(file: Path) -> Any:
    """Return what a file holds, which a part that was stopped may have left unfinished."""
    text = file.read_text(errors="replace")
    try:
        return READERS[file.suffix](text)
    except Exception as error:
        return {"unreadable": repr(error), "text": text}


def tests(text: str) -> dict[str, Any]:
    """Return counts of tests, what failed and what was slow, from a JSON a line; half a line is the last."""
    ended = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
    slowest = sorted(ended, key=lambda one: -one["seconds"])[:10]
    return {
        **{kind: sum(one["outcome"] == kind for one in ended) for kind in KINDS},
        "names_of_failed": {one["test"]: one["message"] for one in ended if one["outcome"] == "failed"},
        "slowest": {one["test"]: one["seconds"] for one in slowest},
    }


def kernels(text: str) -> dict[str, dict[str, str]]:
    """Return the metrics of every kernel, by its place and name, from the CSV behind a profiler's lines."""
    found: dict[str, dict[str, str]] = {}
    lines = text[text.index('"ID"') :].splitlines()
    for row in csv.DictReader(line for line in lines if line.startswith('"')):
        metrics = found.setdefault(f"{row['ID']} {row['Kernel Name']}", {})
        if row["Metric Name"]:
            metrics[row["Metric Name"]] = f"{row['Metric Value']} {row['Metric Unit']}".strip()
    return found


READERS: dict[str, Callable[[str], Any]] = {
    ".json": json.loads,
    ".outcomes": tests,
    ".csv": kernels,
    ".sanitizer": re.compile(r"(?:ERROR|RACECHECK) SUMMARY: (.*)").findall,
}


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
    for part, found in report.items():
        if part.startswith("operators"):
            yield from mismatches(found.get("wrong", []))
    for part in (part for part in ("tests", "failed") if "names_of_failed" in report.get(part, {})):
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
    for target in report.get("targets", []):
        if target["measured"] is not None:
            yield f"{target['outcome']:<6} {target['target']}: {target['measured']:.3g} ({target['wanted']})"
