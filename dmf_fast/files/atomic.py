"""Files that are never there in part."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a name to write a file under, and put it into its place at once, in a folder that is created.

    A block that is interrupted leaves the file before, and nothing else. Raises `OSError` where the file
    cannot be put there.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, written_whole(Path(folder, "results")) as partial:
    ...     _ = partial.write_text("all of it")
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


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
