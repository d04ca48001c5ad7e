"""Digests of the files in a folder, which detect damage when the folder is read.

``SHA256SUMS`` lists every file of a folder, in the format of ``sha256sum --check``.
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
    """Yield a folder to fill, and move it into place at the end, with the digests of its files.

    See `atomic_folder`.
    """
    with atomic_folder(path) as partial:
        yield partial
        write_sums(partial)


def write_sums(folder: Path) -> None:
    """Write the digests of all files in ``folder``; this must be the last file written there.

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
    """Write a UTF-8 file into a folder made by `summed_folder`, and update its digest.

    If the process is killed in between, this file does not match the list; all others do.

    Raises `OSError` and `ValueError` as `read_sums` does, and `OSError` if the folder cannot be written to.
    """
    sums = read_sums(folder)
    write_whole(folder / name, text)
    sums[name] = _digest(folder / name)
    write_whole(folder / SUMS, _listed(sums))


def read_sums(folder: Path) -> dict[str, str]:
    """Return the digest of every file that ``folder`` lists.

    Raises `OSError` if there is no list, and a `ValueError` if it is damaged.
    """
    text = (folder / SUMS).read_text("utf-8")
    lines = _LINE.findall(text)
    if not lines or "".join(f"{digest}  {name}\n" for digest, name in lines) != text:
        raise ValueError(f"{SUMS} is not a list of digests and names")
    return {name: digest for digest, name in lines}


def check_sums(
    folder: Path, names: Iterable[str] | None = None, sums: Mapping[str, str] | None = None
) -> None:
    """Raise a `ValueError` if a file in ``folder`` is not as it was written, or not listed.

    Files are hashed at 1 to 2 GB a second.

    Args:
        folder: folder with a list written by `write_sums`.
        names: names of the files to check; None for all listed files.
        sums: an earlier result of `read_sums`, to detect that the folder has since been replaced.

    """
    listed = read_sums(folder) if sums is None else sums
    for name in listed if names is None else names:
        if name not in listed:
            raise ValueError(f"{SUMS} does not list {name}")
        if _digest(folder / name) != listed[name]:
            raise ValueError(f"{name} does not match {SUMS}")


def first_foreign(folder: Path, mark: str) -> str | None:
    """Return the name of a file in ``folder`` that does not belong to folders with ``mark``; None if none.

    ``mark`` is a file that only folders of one kind have. A missing folder holds nothing.
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
