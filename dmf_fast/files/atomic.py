"""Files and folders that are never there in part.

What is written stands in a folder of the writer's own next to its place, is flushed to the disk, and only
then is renamed. Whenever the process is killed, the old one is there or the new one. What a killed writer has
left is removed by the next one for the same place.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import itertools
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

Read = TypeVar("Read")

_A_DAY = 86400.0
_LONGEST_NAME = 128  # of which a writer's own folder is called after its place
_OLD = "old"
_ATTEMPTS = 100
_numbers = itertools.count()
_in_use: set[str] = set()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a name to write a file under, and put it into its place at the end, in a folder that is created.

    A block that fails leaves the file before, and nothing else. Where ``path`` is a link, what it points to
    is replaced; the mode of what was there is kept. Raises `OSError` where the file cannot be put there.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, atomic_file(Path(folder, "results")) as partial:
    ...     _ = partial.write_text("all of it")
    """
    path = place_of(path)
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no regular file, which alone is replaced", str(path))
    with _own_folder(path) as own:
        partial = own / f"new{path.suffix}"
        yield partial
        flush(partial)
        _keep_mode(path, partial)
        os.replace(partial, path)
        flush(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to write into, and put it into its place at the end, where an older one may be.

    As `atomic_file`. Where the file system cannot exchange two folders, there is a moment between two
    renames when neither is there; `put_back` mends that.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_folder(Path(folder, "run")) as partial:
    ...         _ = (partial / "results").write_text("all of it")
    ...     [path.name for path in Path(folder, "run").iterdir()]
    ['results']
    """
    path = place_of(path)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "it is a file, which no folder replaces", str(path))
    with _own_folder(path) as own:
        partial = own / "new"
        partial.mkdir()
        yield partial
        for folder, _, names in os.walk(partial):
            for name in names:
                flush(Path(folder, name))
            flush(Path(folder))
        _keep_mode(path, partial)
        _take_place(partial, path)
        flush(path.parent)


def read_whole(path: Path, read: Callable[[], Read]) -> Read:
    """Return what ``read`` returns, which reads the file or folder at ``path``: all of one, old or new.

    It is called again where an `atomic_file` or `atomic_folder` has replaced ``path`` meanwhile.

    >>> read_whole(Path("no/such/folder"), lambda: 1)
    1
    """
    for _ in range(_ATTEMPTS):
        put_back(path)
        before = _version(path)
        try:
            found = read()
        except Exception:
            if _version(path) == before:
                raise
        else:
            if _version(path) == before:
                return found
    raise OSError(errno.EBUSY, "it is replaced again and again while it is read", str(path))


def put_back(path: Path) -> None:
    """Put a folder back into its place that a writer was killed in replacing, between two renames."""
    with suppress(OSError):
        path = place_of(path)
        if path.exists():
            return
        for entry, is_written in _partials(path):
            if not is_written and (entry / _OLD).exists():
                os.replace(entry / _OLD, path)


def remove_strays(path: Path) -> None:
    """Remove what writers of ``path`` have left beside it that were killed; each next writer does it, too.

    >>> remove_strays(Path("no/such/folder"))
    """
    with suppress(OSError):  # a folder that may be written to, but not listed
        for entry, is_written in _partials(path):
            if not is_written:
                _remove(entry)


def place_of(path: Path) -> Path:
    """Return the place that is meant: what a link points to, where there is one.

    Raises `OSError` for links in a circle.

    >>> place_of(Path("/a/../b"))
    PosixPath('/b')
    """
    try:
        place = path.resolve()
    except RuntimeError:  # what Python before 3.13 raises for links in a circle
        place = path
    if place.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return place


def make_folder(path: Path) -> None:
    """Make a folder that may be there already, with those above it, and have them on the disk.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     make_folder(Path(folder, "a", "b"))
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    if missing:
        path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        flush(folder.parent)


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
def _own_folder(path: Path) -> Iterator[Path]:
    """Give a new folder next to ``path`` that is nobody else's, and remove it; strays are removed, too.

    A folder, because nobody else can plant a link in it, and because some libraries write temporary files
    beside the name they are given.
    """
    make_folder(path.parent)
    put_back(path)
    remove_strays(path)
    own = _made(path)
    try:
        yield own
    finally:
        _in_use.discard(own.name)
        put_back(path)
        _remove(own)


def _made(path: Path) -> Path:
    while True:
        writer = f"{socket.gethostname()}-{os.getpid()}-{next(_numbers)}"
        own = path.with_name(f".{writer}.{_mark(path)}.partial")
        _in_use.add(own.name)
        try:
            own.mkdir(mode=0o700)
            return own
        except FileExistsError:  # not of this process
            _in_use.discard(own.name)


def _mark(path: Path) -> str:
    """Return how own folders for a place are called; names may not be longer than 255 bytes."""
    name = os.fsencode(path.name)
    return path.name if len(name) <= _LONGEST_NAME else hashlib.sha256(name).hexdigest()


def _partials(path: Path) -> Iterator[tuple[Path, bool]]:
    """Return the own folders of writers for ``path``, and whether these may be alive."""
    ours = re.compile(rf"\.(.+)-(\d+)-\d+\.{re.escape(_mark(path))}\.partial")
    for entry in list(path.parent.iterdir()):
        found = ours.fullmatch(entry.name)
        if found is not None:
            yield entry, _is_written(entry, found[1], int(found[2]))


def _is_written(entry: Path, host: str, process: int) -> bool:
    """Return whether its writer may be alive; on another machine, whether it was begun within a day."""
    try:
        if host != socket.gethostname():
            return time.time() - entry.lstat().st_mtime < _A_DAY
        if process == os.getpid():
            return entry.name in _in_use
        os.kill(process, 0)
    except (FileNotFoundError, ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it lives, as another user's
    return True


def _keep_mode(path: Path, partial: Path) -> None:
    with suppress(FileNotFoundError):
        mode = stat.S_IMODE(path.stat().st_mode)
        # A folder that its owner may not write to cannot be moved.
        partial.chmod(mode | stat.S_IRWXU if partial.is_dir() else mode)


def _take_place(partial: Path, path: Path) -> None:
    """Put the folder ``partial`` in the place of ``path``; where one was there, it is beside ``partial``.

    Other writers may do the same meanwhile.
    """
    old = partial.with_name(_OLD)
    for _ in range(_ATTEMPTS):
        if _renamed(partial, path) or _exchanged(partial, path):
            return
        with suppress(FileNotFoundError):
            os.replace(path, old)
        if _renamed(partial, path):
            return
        _remove(old)  # another writer was faster, with a newer one
    raise OSError(errno.EBUSY, "others replace it again and again", str(path))


def _renamed(partial: Path, path: Path) -> bool:
    """Rename a folder; False where another, which is not empty, has the name."""
    try:
        os.replace(partial, path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names at once; False where that is not possible. Python has no function for it."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux
    return renameat2 is not None and renameat2(here, bytes(one), here, bytes(other), exchange) == 0


def _version(path: Path) -> tuple[int, int] | None:
    """Return what changes where another one takes the place: inodes are used again, times are not."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_ctime_ns


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
