"""Everything that is renamed into place, and whether it was on disk by then."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dmf_fast.files import atomic, tensors

Id = tuple[int, int]
_NOT_PUBLISHED = ("lock",)
_WRITING = (
    (os, "fsync"),
    (os, "replace"),
    (os, "mkdir"),
    (Path, "write_text"),
    (Path, "touch"),
    (tensors, "save_file"),
    (pq, "write_table"),
    (atomic, "_exchanged"),
)


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


def assert_old_until_new(
    place: Path, new: Path, write: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fail where ``write`` finds the disk full at any of its calls, and ``place`` is neither old nor new."""
    old, expected, call = _contents(place), _contents(new), 0
    while _contents(place) == old:
        with monkeypatch.context() as patch:
            failed = _fails_at(call, patch, write)
        assert _contents(place) in (old, expected)
        assert failed or _contents(place) == expected
        assert [path.name for path in place.parent.iterdir()] == [place.name]
        call += 1
    assert call > len(expected)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _fails_at(call: int, patch: pytest.MonkeyPatch, write: Callable[[], object]) -> bool:
    """Have a call that writes, flushes or renames find the disk full; False where it comes to none."""
    calls = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call + 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*arguments, **more)

        return counting

    for owner, name in _WRITING:
        patch.setattr(owner, name, counted(getattr(owner, name)))
    with suppress(OSError):
        write()
        return False
    return True
