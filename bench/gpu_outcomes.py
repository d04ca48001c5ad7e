"""`python -m bench.gpu_outcomes FOLDER FILE`: one JSON of what the parts of gpu_check.sh left in FOLDER."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

from bench import sanitizer_log
from bench.gpu_limits import facts
from bench.record import origin

TOOLS = ("memcheck", "racecheck", "initcheck")


def collect(folder: Path) -> dict[str, object]:
    """Return the outcome of every part that ran, and all that the benchmarks reported."""
    report: dict[str, object] = {"parts": parts((folder / "parts").read_text())}
    tests, benchmarks = folder / "tests.xml", folder / "report.json"
    if tests.is_file():
        report["tests"] = test_counts(tests.read_text())
    logs = [log for tool in TOOLS if (log := folder / f"{tool}.log").is_file()]
    if logs:
        report["sanitizer"] = {log.stem: sanitizer_log.read(log.read_text()) for log in logs}
    if benchmarks.is_file():
        report |= json.loads(benchmarks.read_text())
    return report


def parts(lines: str) -> dict[str, dict[str, object]]:
    """Read lines of a part's name, its outcome and its seconds."""
    fields = [line.split() for line in lines.splitlines()]
    return {name: {"outcome": outcome, "seconds": int(seconds)} for name, outcome, seconds in fields}


def test_counts(junit: str) -> dict[str, object]:
    """Count the outcomes in pytest's XML and name the tests that failed."""
    cases = list(ElementTree.fromstring(junit).iter("testcase"))
    kinds = ("failure", "error", "skipped")
    counts = {kind: sum(case.find(kind) is not None for case in cases) for kind in kinds}
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    return {
        "passed": len(cases) - sum(counts.values()),
        "failed": counts["failure"],
        "errors": counts["error"],
        "skipped": counts["skipped"],
        "names_of_failed": [f"{case.get('classname')}.{case.get('name')}" for case in failed],
    }


def main() -> None:
    folder, output = map(Path, sys.argv[1:])
    report = {**origin(), "device": facts(), **collect(folder)}
    output.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
