"""Digests of the files in a folder, by which damage is detected when the folder is read.

``SHA256SUMS`` lists every file of a folder, as ``sha256sum --check`` reads it too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dmf_fast.files.atomic import atomic_folder
from dmf_fast.files.text import write_whole

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\n]+)\n")
_BLOCK = 1 << 20


@contextmanager
def summed_folder(path: Path) -> Iterator[Path]:
    """Give a folder to write files into and put it into its place at the end, with their digests.

    See `atomic_folder`.
    """
    with atomic_folder(path) as partial:
        yield partial
        write_sums(partial)


def write_sums(folder: Path) -> None:
    """List the digests of all files in ``folder``; the last file to be written there.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     folder = Path(name)
    ...     size = (folder / "results").write_text("1")
    ...     write_sums(folder)
    ...     check_sums(folder)
    ...     size = (folder / "results").write_text("2")
    ...     check_sums(folder)
    Traceback (most recent call last):
    ValueError: results does not match SHA256SUMS
    """
    names = sorted(path.name for path in folder.iterdir() if path.name != SUMS)
    (folder / SUMS).write_text(_listed({name: _digest(folder / name) for name in names}), "utf-8")


def replace_summed_file(folder: Path, name: str, text: str) -> None:
    """Write a file, as UTF-8, into a folder that `summed_folder` has made, and list its digest anew.

    Killed in between, it leaves a file that does not match the list; all others do.

    Raises `OSError` and `ValueError` as `read_sums`, and `OSError` where the folder cannot be written to.
    """
    sums = read_sums(folder)
    write_whole(folder / name, text)
    sums[name] = _digest(folder / name)
    write_whole(folder / SUMS, _listed(sums))


def read_sums(folder: Path) -> dict[str, str]:
    """Return the digest of every file that ``folder`` lists.

    Raises `OSError` where there is no list, a `ValueError` where it is damaged.
    """
    text = (folder / SUMS).read_text("utf-8")
    lines = _LINE.findall(text)
    if not lines or "".join(f"{digest}  {name}\n" for digest, name in lines) != text:
        raise ValueError(f"{SUMS} is not a list of digests and names")
    return {name: digest for digest, name in lines}


def check_sums(
    folder: Path, names: Iterable[str] | None = None, sums: Mapping[str, str] | None = None
) -> None:
    """Raise a `ValueError` where a file in ``folder`` is not as it was written, or not listed.

    Files are hashed at 1 to 2 GB a second.

    Args:
        folder: with a list that `write_sums` has made.
        names: of the files to check; None for all that are listed.
        sums: what `read_sums` has returned before, so that a folder which was replaced since is noticed.

    """
    listed = read_sums(folder) if sums is None else sums
    for name in listed if names is None else names:
        if name not in listed:
            raise ValueError(f"{SUMS} does not list {name}")
        if _digest(folder / name) != listed[name]:
            raise ValueError(f"{name} does not match {SUMS}")


def first_foreign(folder: Path, mark: str) -> str | None:
    """Return the name of something in ``folder`` that did not come there with ``mark``; None for nothing.

    ``mark`` is a file that only folders of one kind have. A folder that is not there holds nothing.
    """
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    try:
        listed = read_sums(folder)
    except (OSError, ValueError):
        listed = {}
    ours = {SUMS, *listed} if mark in listed else set()
    return next((name for name in names if name not in ours or (folder / name).is_dir()), None)


def _listed(sums: Mapping[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
