"""Several processes save to one place and read it: every read is the old result or the new, whole."""

from __future__ import annotations

import time
from pathlib import Path

from tests.torture.children import Child
from tests.torture.findings import Findings
from tests.torture.harm import undisturbed
from tests.torture.saves import CommandFailed, Save, copied

ROUND_SECONDS = 3.0
_REFUSALS = ("in use by another run", "has changed while it was read", "is already complete")


def race(save: Save, seed: str, seconds: float, scratch: Path) -> Findings:
    """Let two writers of the old result, one of the new, and two readers meet, for so many seconds."""
    findings, whole = Findings("racing writes"), undisturbed(save, scratch)
    ends = time.monotonic() + seconds
    counted = scratch / "counted"
    while time.monotonic() < ends:
        folder = copied(whole.start, scratch / "work")
        counted.write_bytes(b"")
        until = min(ends, time.monotonic() + ROUND_SECONDS)

        def write(new: bool, folder: Path = folder, until: float = until) -> None:
            while time.monotonic() < until:
                try:
                    (save.save if new else save.before)(folder)
                except (CommandFailed, ValueError, RuntimeError) as error:
                    # Where a folder is of one job at a time, the second one is refused.
                    if not any(words in str(error) for words in _REFUSALS):
                        raise
                with counted.open("ab") as file:
                    file.write(b".")

        def read(folder: Path = folder, until: float = until) -> None:
            while time.monotonic() < until:
                found = save.look(folder)
                if found not in (whole.old, whole.new):
                    raise AssertionError(f"a read was neither the old result nor the new, but {found}")

        children = [Child(lambda: write(False)), Child(lambda: write(True)), Child(lambda: write(False))]
        children += [Child(read), Child(read)]
        for child in children:
            ending = child.wait(60.0)
            if ending.crash or ending.code:
                last = (ending.output.strip().splitlines() or [""])[-1]
                findings.add(f"{save.name}: {ending.crash or last[:300]}")
        findings.tried += counted.stat().st_size
        strays = sorted(set(save.names(folder)) - set(whole.names) - set(save.names(whole.start)))
        if strays:
            findings.add(f"{save.name}: left behind: {strays[0]}")
    return findings
