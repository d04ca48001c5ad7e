"""Saves onto a disk that is full: the old result stays, an error of the system says why, and then it goes on.

With root a small tmpfs is filled. Everywhere files may not grow beyond a size (RLIMIT_FSIZE).
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from tests.torture.children import Child, Ending
from tests.torture.findings import Findings
from tests.torture.harm import Undisturbed, after_going_on, after_harm, undisturbed
from tests.torture.saves import CommandFailed, Save, copied

_DISK_BYTES = 16 << 20
_REFUSED = 3  # exit code of a child whose save has raised what it may


def fill(save: Save, seed: str, seconds: float, scratch: Path) -> Findings:
    """Save onto a disk with too little room, again and again, for so many seconds."""
    random, findings = Random(f"{seed} full {save.name}"), Findings("full disk")
    whole, ends = undisturbed(save, scratch), time.monotonic() + seconds
    size = _size(scratch / "whole")
    with _mounted(scratch / "disk") as disk:
        if disk is None:
            findings.skipped = "no tmpfs without root; files of limited size only"
        while time.monotonic() < ends:
            findings.tried += 1
            if disk is not None and random.random() < 0.7:
                fault = _on_full_disk(save, whole, disk, random.randrange(2 * size))
            else:
                fault = _with_small_files(save, whole, scratch / "work", random.randrange(size))
            if fault:
                findings.add(f"{save.name}: {fault}")
    return findings


def _on_full_disk(save: Save, whole: Undisturbed, disk: Path, room: int) -> str | None:
    folder = copied(whole.start, disk / "work")
    filler = disk / "filler"
    free = os.statvfs(disk)
    filler.write_bytes(b"x" * max(0, free.f_bavail * free.f_bsize - room))
    try:
        fault = _fault(Child(lambda: _save(save, folder)).wait(60.0)) or after_harm(save, whole, folder)
    finally:
        filler.unlink()
    return fault or after_going_on(save, whole, folder)


def _with_small_files(save: Save, whole: Undisturbed, folder: Path, most: int) -> str | None:
    copied(whole.start, folder)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        _save(save, folder)

    fault = _fault(Child(limited).wait(60.0)) or after_harm(save, whole, folder)
    return fault or after_going_on(save, whole, folder)


def _save(save: Save, folder: Path) -> None:
    """Save, or end with the error of a full disk, which a command says in one sentence."""
    try:
        save.save(folder)
    except CommandFailed as failed:
        if failed.code == 2 and _says_why(str(failed)):
            raise SystemExit(_REFUSED) from failed
        raise
    except OSError as error:
        if _says_why(str(error)):
            raise SystemExit(_REFUSED) from error
        raise
    except Exception as error:
        if isinstance(error.__cause__, OSError) and _says_why(str(error)):  # of a trial, which it names
            raise SystemExit(_REFUSED) from error
        raise


def _says_why(text: str) -> bool:
    return "No space left" in text or "File too large" in text


def _fault(ending: Ending) -> str | None:
    if ending.crash:
        return ending.crash
    if ending.code in (0, _REFUSED):
        return None
    return f"not the error of a full disk: {ending.output.strip().splitlines()[-1][:300]}"


@contextmanager
def _mounted(disk: Path) -> Iterator[Path | None]:
    """Give a small file system of its own; None where this process may not mount one."""
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(disk)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _size(folder: Path) -> int:
    """Return how many bytes the files below a folder take."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
