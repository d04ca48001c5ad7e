"""Locks of folders, which the system releases when a process ends, however it ends."""

from __future__ import annotations

import errno
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = "lock"
_TOO_MANY_FILES = (
    "too many files are open to lock another folder; raise the limit (`ulimit -n`), or run less at once"
)


class InUseError(ValueError):
    """Another run holds the folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock ``folder``, which is created, so that no other run uses it, in this process or another.

    The lock is that of `flock`, which network file systems share among machines if they are mounted with
    locks (``docs/grids.md``).

    Raises an `InUseError` if another run holds it, a `ValueError` if it is a file, and an `OSError` if it
    cannot be created or too many files are open.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, locked(Path(folder)):
    ...     [path.name for path in Path(folder).iterdir()]
    ['lock']
    """
    from filelock import FileLock, Timeout  # here, as it takes time to import and most runs hold no folder

    check_folder(folder)
    if (folder / LOCK).is_symlink():
        raise ValueError(f"{folder / LOCK} must be a file, got a link; remove it")
    # The file must stay: otherwise a run that has opened it and one that recreates it could both hold a lock.
    lock = FileLock(folder / LOCK, timeout=0, thread_local=False, fallback_to_soft=False)
    in_use = f"{folder} is in use by another run; wait until that has ended, or choose another folder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        if folder.is_symlink():
            raise
        raise InUseError(in_use) from None  # its holder has just removed it
    try:
        lock.acquire()
    except (Timeout, FileNotFoundError, FileExistsError):  # likewise
        raise InUseError(in_use) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            raise OSError(error.errno, _TOO_MANY_FILES, str(folder / LOCK)) from None
        # A file system without locks.
        # One text for all folders there, so that it is shown once.
        warnings.warn(
            f"folders in {folder.parent} cannot be locked ({error}); see to it that no other run uses them",
            stacklevel=3,
        )
    try:
        yield
    finally:
        lock.release()


def check_folder(folder: Path) -> None:
    """Raise a `ValueError` if ``folder`` exists and is not a folder.

    Raises an `OSError` if it cannot be accessed.

    >>> check_folder(Path("no/such/folder"))
    """
    try:
        is_folder = stat.S_ISDIR(folder.stat().st_mode)  # a single call: it may be removed meanwhile
    except FileNotFoundError:
        return
    if not is_folder:
        raise ValueError(f"{folder} must be a folder, got a file; choose another name")
