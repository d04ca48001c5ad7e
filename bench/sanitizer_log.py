"""`python -m bench.sanitizer_log LOG…`: what compute-sanitizer found in this project's kernels.

Exits with 1 where it found something or did not finish. A report is a paragraph of lines that begin with
`=========`; it counts where it names the namespace of the kernels, as initcheck also watches torch's.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SUMMARY = re.compile(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)")
STATUS = re.compile(r"^exit status (\d+)$", re.MULTILINE)
OURS = re.compile(r"\bdmf::")


def read(log: str) -> dict[str, object]:
    """Return the outcome, how much was reported at all and how much of it in this project's kernels."""
    summaries, status = SUMMARY.findall(log), STATUS.search(log)
    if not summaries or status is None:
        return {"outcome": "did not finish"}
    reports = re.split(r"^=========\s*$", log, flags=re.MULTILINE)
    ours = sum(bool(OURS.search(report)) for report in reports)
    clean = ours == 0 and int(status.group(1)) == 0
    return {
        "outcome": "clean" if clean else "failed",
        "reports": int(summaries[-1]),
        "reports_in_our_kernels": ours,
        "exit_status": int(status.group(1)),
    }


def main() -> None:
    found = {path.stem: read(path.read_text()) for path in map(Path, sys.argv[1:])}
    for tool, outcome in found.items():
        print(f"{tool}: {outcome}")
    sys.exit(any(outcome["outcome"] != "clean" for outcome in found.values()))


if __name__ == "__main__":
    main()
