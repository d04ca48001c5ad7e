"""What an attack has found: how often it tried, what failed, and the minimal inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass
class Findings:
    """How often an attack tried, and what failed: the words for it, how often, and an example."""

    attack: str
    tried: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    skipped: str = ""

    def add(self, what: str, count: int = 1, example: Any = None) -> None:
        """Note a failure; one that is known by the same words counts once more."""
        for failure in self.failures:
            if failure["what"] == what:
                failure["count"] += count
                return
        self.failures.append({"what": what, "count": count, "example": example})

    @property
    def failed(self) -> int:
        """How many tries have failed."""
        return sum(failure["count"] for failure in self.failures)


def merged(parts: Sequence[Findings]) -> list[Findings]:
    """Return one of each attack."""
    whole: dict[str, Findings] = {}
    for part in parts:
        one = whole.setdefault(part.attack, Findings(part.attack, skipped=part.skipped))
        one.tried += part.tried
        for failure in part.failures:
            one.add(failure["what"], failure["count"], failure["example"])
    return [whole[name] for name in sorted(whole)]


def print_table(findings: Sequence[Findings]) -> None:
    """Print a line an attack, and below it what failed."""
    table = Table("attack", "tried", "failed", "what failed")
    for one in findings:
        words = [f"{failure['count']:,} × {failure['what']}" for failure in one.failures] or [one.skipped]
        table.add_row(one.attack, f"{one.tried:,}", f"{one.failed:,}", Text("\n".join(words)))
    table.add_row(
        "all", f"{sum(one.tried for one in findings):,}", f"{sum(one.failed for one in findings):,}"
    )
    Console(width=None if Console().is_terminal else 160).print(table)


def keep_examples(findings: Sequence[Findings], folder: Path) -> None:
    """Write the minimal inputs that failed into the corpus, a file each, named by target and digest."""
    for one in findings:
        for failure in one.failures:
            example = failure["example"]
            if example is None:
                continue
            text = json.dumps({"what": failure["what"], **example}, indent=1) + "\n"
            digest = hashlib.sha256(text.encode()).hexdigest()[:6]
            (folder / f"{example['target'].replace(' ', '-')}-{digest}.json").write_text(text)


def write_report(findings: Sequence[Findings], facts: dict[str, Any], path: Path) -> None:
    """Write what was tried and what failed, with the examples, as JSON."""
    attacks = [
        {
            "attack": one.attack,
            "tried": one.tried,
            "failed": one.failed,
            **({"skipped": one.skipped} if one.skipped else {}),
            "failures": one.failures,
        }
        for one in findings
    ]
    report = facts | {
        "tried": sum(one.tried for one in findings),
        "failed": sum(one.failed for one in findings),
        "attacks": attacks,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
