"""Atomic writing of files and folders.

A writer writes into a temporary folder of its own next to the target, flushes it to disk, and only then
renames it. Whenever the process is killed, either the old or the new version exists. What a killed writer
leaves behind is removed by the next writer of the same target.
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
_LONGEST_NAME = 128  # longer names are hashed in the name of the temporary folder
_OLD = "old"
_ATTEMPTS = 100
_numbers = itertools.count()
_in_use: set[str] = set()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and move the file to ``path`` on success, creating its folder.

    If the block fails, the old file remains. If ``path`` is a symbolic link, its target is replaced. The mode
    of an existing file is kept. Raises `OSError` if the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, atomic_file(Path(folder, "results")) as partial:
    ...     _ = partial.write_text("all of it")
    """
    path = place_of(path)
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file, so it is not replaced", str(path))
    with _own_folder(path) as own:
        partial = own / f"new{path.suffix}"
        yield partial
        flush(partial)
        _keep_mode(path, partial)
        os.replace(partial, path)
        flush(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder to fill, and move it to ``path`` on success, replacing an older one.

    See `atomic_file`. If the file system cannot exchange two folders, neither exists for a moment between two
    renames; `put_back` recovers from a crash in between.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_folder(Path(folder, "run")) as partial:
    ...         _ = (partial / "results").write_text("all of it")
    ...     [path.name for path in Path(folder, "run").iterdir()]
    ['results']
    """
    path = place_of(path)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "it is a file, so no folder replaces it", str(path))
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
    """Return the result of ``read``, which reads the file or folder at ``path``, from a single version of it.

    ``read`` is called again if an `atomic_file` or `atomic_folder` replaced ``path`` meanwhile.

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
    raise OSError(errno.EBUSY, "it is repeatedly replaced while it is read", str(path))


def put_back(path: Path) -> None:
    """Restore a folder whose writer was killed between two renames."""
    with suppress(OSError):
        path = place_of(path)
        if path.exists():
            return
        for entry, is_written in _partials(path):
            if not is_written and (entry / _OLD).exists():
                os.replace(entry / _OLD, path)


def remove_strays(path: Path) -> None:
    """Remove what killed writers of ``path`` left next to it, as the next writer does.

    >>> remove_strays(Path("no/such/folder"))
    """
    with suppress(OSError):  # the folder may be writable but not listable
        for entry, is_written in _partials(path):
            if not is_written:
                _remove(entry)


def place_of(path: Path) -> Path:
    """Return ``path`` with symbolic links resolved.

    Raises `OSError` for circular links.

    >>> place_of(Path("/a/../b"))
    PosixPath('/b')
    """
    try:
        place = path.resolve()
    except RuntimeError:  # raised for circular links by Python before 3.13
        place = path
    if place.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return place


def make_folder(path: Path) -> None:
    """Create a folder and its parents, if they do not exist, and flush them to disk.

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
    """Flush the contents of a file, or the entries of a folder, to disk.

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
    """Yield a new private folder next to ``path``, and remove it and strays afterwards.

    It is a folder because nobody else can plant a link in it, and because some libraries write temporary
    files next to the path they are given.
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
        except FileExistsError:  # left by another process
            _in_use.discard(own.name)


def _mark(path: Path) -> str:
    """Return the name of ``path`` for temporary folders, hashed if long, as names have at most 255 bytes."""
    name = os.fsencode(path.name)
    return path.name if len(name) <= _LONGEST_NAME else hashlib.sha256(name).hexdigest()


def _partials(path: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the temporary folders of writers of ``path``, and whether the writers may be alive."""
    ours = re.compile(rf"\.(.+)-(\d+)-\d+\.{re.escape(_mark(path))}\.partial")
    for entry in list(path.parent.iterdir()):
        found = ours.fullmatch(entry.name)
        if found is not None:
            yield entry, _is_written(entry, found[1], int(found[2]))


def _is_written(entry: Path, host: str, process: int) -> bool:
    """Return whether the writer may be alive; on another machine, whether it began less than a day ago."""
    try:
        if host != socket.gethostname():
            return time.time() - entry.lstat().st_mtime < _A_DAY
        if process == os.getpid():
            return entry.name in _in_use
        os.kill(process, 0)
    except (FileNotFoundError, ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it belongs to another user, so it is alive
    return True


def _keep_mode(path: Path, partial: Path) -> None:
    with suppress(FileNotFoundError):
        mode = stat.S_IMODE(path.stat().st_mode)
        # A folder cannot be moved without write permission.
        partial.chmod(mode | stat.S_IRWXU if partial.is_dir() else mode)


def _take_place(partial: Path, path: Path) -> None:
    """Move the folder ``partial`` to ``path``; an existing folder ends up in or next to ``partial``.

    Other writers may do the same concurrently.
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
    raise OSError(errno.EBUSY, "others replace it repeatedly", str(path))


def _renamed(partial: Path, path: Path) -> bool:
    """Rename a folder; return False if a nonempty folder has the name."""
    try:
        os.replace(partial, path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names atomically; False if that is not possible. Python has no function for it."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux
    return renameat2 is not None and renameat2(here, bytes(one), here, bytes(other), exchange) == 0


def _version(path: Path) -> tuple[int, int] | None:
    """Return an identifier that changes if a file is replaced: inodes may be reused, times are not."""
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
