"""Files and folders that are never there in part.

What is written stands under a name of the writer's own next to its place, is flushed to the disk, and only
then is renamed. Whenever the process is killed, the old one is there or the new one. What a killed writer has
left is removed by the next one for the same place.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PARTIAL, _REPLACED = ".partial", ".replaced"
_A_DAY = 86400.0
_numbers = itertools.count()
_in_use: set[str] = set()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a name to write a file under, and put it into its place at the end, in a folder that is created.

    A block that fails leaves the file before, and nothing else. Where ``path`` is a link, what it points to
    is replaced. Raises `OSError` where the file cannot be put there.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, atomic_file(Path(folder, "results")) as partial:
    ...     _ = partial.write_text("all of it")
    """
    with _own_name(path) as (path, partial):
        yield partial
        flush(partial)
        os.replace(partial, path)
        flush(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to write into, and put it into its place at the end, where an older one may be.

    As `atomic_file`. Where the file system cannot exchange two folders, there is a moment between two
    renames when neither is there; the next writer then puts the old one back.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_folder(Path(folder, "run")) as partial:
    ...         _ = (partial / "results").write_text("all of it")
    ...     [path.name for path in Path(folder, "run").iterdir()]
    ['results']
    """
    with _own_name(path) as (path, partial):
        partial.mkdir()
        yield partial
        for folder, _, names in os.walk(partial):
            for name in names:
                flush(Path(folder, name))
            flush(Path(folder))
        if path.exists():
            _take_place(partial, path)
        else:
            os.replace(partial, path)
        flush(path.parent)


def flush(path: Path) -> None:
    """Have a file's contents, or a folder's entries, on the disk before anything else happens.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     flush(Path(folder))
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _own_name(path: Path) -> Iterator[tuple[Path, Path]]:
    """Give the place that is meant and a name next to it, which is removed again; strays are, too."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    _clean(path)
    writer = f"{socket.gethostname()}-{os.getpid()}-{next(_numbers)}"
    partial = path.with_name(f".{writer}.{path.name}{_PARTIAL}")
    _in_use.add(partial.name)
    try:
        yield path, partial
    finally:
        _remove(partial)
        _in_use.discard(partial.name)


def _clean(path: Path) -> None:
    """Remove what killed writers of ``path`` have left; an old folder that lost its place gets it back."""
    ours = re.compile(rf"\.(.+)-(\d+)-\d+\.{re.escape(path.name)}({_PARTIAL}|{_REPLACED})")
    for entry in list(path.parent.iterdir()):
        found = ours.fullmatch(entry.name)
        if found is None or _is_written(entry, found[1], int(found[2])):
            continue
        if found[3] == _REPLACED and not path.exists():
            os.replace(entry, path)
        else:
            _remove(entry)


def _is_written(entry: Path, host: str, process: int) -> bool:
    """Return whether its writer may be alive; on another machine, whether it was begun within a day."""
    try:
        if host != socket.gethostname():
            return time.time() - entry.stat().st_mtime < _A_DAY
        if process == os.getpid():
            return entry.with_suffix(_PARTIAL).name in _in_use
        os.kill(process, 0)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError:
        pass  # it lives, as another user's
    return True


def _take_place(partial: Path, path: Path) -> None:
    """Put the folder ``partial`` in the place of the folder ``path``, and remove that."""
    if _exchanged(partial, path):
        return
    replaced = partial.with_suffix(_REPLACED)
    os.replace(path, replaced)
    os.replace(partial, path)
    _remove(replaced)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names at once; False where that is not possible. Python has no function for it."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux
    return renameat2 is not None and renameat2(here, bytes(one), here, bytes(other), exchange) == 0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
