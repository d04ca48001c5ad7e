"""Where results are kept, and which code they are of."""

from __future__ import annotations

import subprocess
from datetime import date
from pathlib import Path

RESULTS = Path(__file__).with_name("results")


def results_file(kind: str) -> Path:
    """Return the default file of today's results of a kind."""
    return RESULTS / f"{date.today().isoformat()}-{kind}.json"


def origin() -> dict[str, str]:
    """Return the day and the commit that a report begins with."""
    return {"date": date.today().isoformat(), "commit": commit()}


def commit() -> str:
    """Return the commit that was measured."""
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True
    )
    return done.stdout.strip() or "unknown"
