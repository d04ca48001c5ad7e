"""The pages that users read, and the code on them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.killing import ROOT

FENCE = re.compile(r"^( *)```(.*)\n((?:.*\n)*?)\1```$", re.MULTILINE)
# These have tests of their own, as their code is files and processes: tests/distributed, tests/training.
ELSEWHERE = {"docs/distributed.md", "docs/grids.md"}


@dataclass(frozen=True)
class Block:
    """A block of code: its language, its first line and the code."""

    language: str
    line: int
    code: str


def pages() -> list[str]:
    """Return all pages, from the root of the repository; the build runs those that are notebooks."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def blocks(page: str) -> list[Block]:
    """Return the blocks of code of a page, in order."""
    text = (ROOT / page).read_text("utf-8")
    found = []
    for match in FENCE.finditer(text):
        code = re.sub(f"^{match[1]}", "", match[3], flags=re.MULTILINE)
        found.append(Block(match[2], text.count("\n", 0, match.start(3)) + 1, code))
    return found


def commands(page: str) -> Iterator[list[str]]:
    """Yield the arguments of every ``dmf-fast`` command in the blocks of a page."""
    for block in blocks(page):
        if block.language in ("bash", "text"):
            for line in block.code.replace("\\\n", " ").splitlines():
                _, found, rest = line.replace("-m dmf_fast.cli ", "dmf-fast ").partition("dmf-fast ")
                if found and not line.lstrip().startswith("#"):
                    yield shlex.split(rest, comments=True)


def ratings(folder: Path, name: str, count: int) -> None:
    """Write a file of ratings that biases explain in part and two tastes in part."""
    import numpy as np

    random = np.random.default_rng(0)
    users, items = np.array([*range(1, 50), 196]), np.array([*range(1, 30), 242])
    places = random.permutation(len(users) * len(items))[:count]
    row, column = np.divmod(places, len(items))
    tastes, qualities = random.normal(size=(len(users), 2)), random.normal(size=(len(items), 2))
    score = 3 + tastes[row, 0] / 2 + qualities[column, 0] / 2 + (tastes @ qualities.T)[row, column]
    lines = [
        f"{user},{item},{value:.1f},{881250949 + place}"
        for place, (user, item, value) in enumerate(
            zip(users[row], items[column], np.clip(score, 1, 5), strict=True)
        )
    ]
    (folder / name).write_text("\n".join(["user,item,rating,timestamp", *lines]) + "\n")
