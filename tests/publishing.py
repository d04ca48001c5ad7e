"""Everything that is renamed into its place, and whether it was on the disk by then."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dmf_fast.files import atomic

Id = tuple[int, int]
_NOT_PUBLISHED = ("lock",)


@contextmanager
def all_is_flushed(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Fail where a file below ``root`` is not renamed into its place, flushed before and its folder after.

    Gives the names of what was renamed to, in order.
    """
    flushed: dict[Id, int] = {}
    published: set[Id] = set()
    to_flush: set[Id] = set()
    renamed: list[str] = []
    fsync, replace, exchanged = os.fsync, os.replace, atomic._exchanged

    def record_flush(descriptor: int) -> None:
        fsync(descriptor)
        status = os.fstat(descriptor)
        flushed[status.st_dev, status.st_ino] = status.st_mtime_ns
        to_flush.discard((status.st_dev, status.st_ino))

    def record_rename(source: Any, target: Any) -> None:
        for path in (Path(source), *Path(source).rglob("*")):
            assert flushed.get(_id(path)) == path.stat().st_mtime_ns, (
                f"{path} was renamed before it was flushed"
            )
            published.add(_id(path))
        to_flush.add(_id(Path(target).parent))
        renamed.append(Path(target).name)

    def replace_recorded(source: Any, target: Any) -> None:
        if not (Path(source).name == "old" or (Path(target).is_dir() and any(Path(target).iterdir()))):
            record_rename(source, target)
        replace(source, target)

    def exchange_recorded(one: Path, other: Path) -> bool:
        record_rename(one, other)
        return exchanged(one, other)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", record_flush)
        patch.setattr(os, "replace", replace_recorded)
        patch.setattr(os, "rename", replace_recorded)
        patch.setattr(atomic, "_exchanged", exchange_recorded)
        yield renamed
    assert not to_flush, "a folder was not flushed after something had been renamed into it"
    files = [path for path in root.rglob("*") if path.is_file() and path.name not in _NOT_PUBLISHED]
    written = {str(path.relative_to(root)) for path in files if _id(path) not in published}
    assert not written, f"{written} were written in their places"


def _id(path: Path) -> Id:
    status = path.stat()
    return status.st_dev, status.st_ino
