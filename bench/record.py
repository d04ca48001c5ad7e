"""Where results are kept, and which code they are of."""

from __future__ import annotations

import os
import shutil
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
    """Return the commit that was measured; a copy without git names it in DMF_FAST_COMMIT."""
    if "DMF_FAST_COMMIT" in os.environ or shutil.which("git") is None:
        return os.environ.get("DMF_FAST_COMMIT", "unknown")
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True
    )
    return done.stdout.strip() or "unknown"
