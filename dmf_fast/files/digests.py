"""Digests of the files in a folder, by which damage is found when the folder is read.

``SHA256SUMS`` lists every file of a folder, as ``sha256sum --check`` reads it too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

_SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\n]+)\n")
_BLOCK = 1 << 20


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
    names = sorted(path.name for path in folder.iterdir() if path.name != _SUMS)
    (folder / _SUMS).write_text("".join(f"{_digest(folder / name)}  {name}\n" for name in names), "utf-8")


def read_sums(folder: Path) -> dict[str, str]:
    """Return the digest of every file that ``folder`` lists.

    Raises `OSError` where there is no list, a `ValueError` where it is damaged.
    """
    text = (folder / _SUMS).read_text("utf-8")
    lines = _LINE.findall(text)
    if not lines or "".join(f"{digest}  {name}\n" for digest, name in lines) != text:
        raise ValueError(f"{_SUMS} is not a list of digests and names")
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
            raise ValueError(f"{_SUMS} does not list {name}")
        if _digest(folder / name) != listed[name]:
            raise ValueError(f"{name} does not match {_SUMS}")


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
