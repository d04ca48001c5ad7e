"""The files of results: where they are, which code they measured, and which are published."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
# A result is published once its file names the machine: DATE-MACHINE-KIND.json; the sweep's has no kind.
PUBLISHED = re.compile(r"\d{4}-\d\d-\d\d-(?P<processor>.+)-(?P<cores>\d+)-cores(?:-(?P<kind>.+))?")


@dataclass(frozen=True)
class Published:
    """A published result: its file, the machine that it is of, and what was measured."""

    file: Path
    processor: str
    cores: int
    numbers: dict[str, Any]


@cache
def latest(kind: str) -> Published:
    """Return the newest published result of a kind."""
    found = [(file, PUBLISHED.fullmatch(file.stem)) for file in sorted(RESULTS.glob("*.json"))]
    named = [(file, name) for file, name in found if name and (name["kind"] or "sweep") == kind]
    if not named:
        raise LookupError(f"there is no {RESULTS}/DATE-MACHINE-{kind}.json")
    file, name = named[-1]
    numbers = json.loads(file.read_text("utf-8"))
    return Published(file, name["processor"], int(name["cores"]), numbers)


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
