"""Finds the files to read in a file, a folder, an archive, or several of these."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NoReturn
from urllib.parse import unquote

from dmf_fast.checks import printable
from dmf_fast.data.errors import DataError
from dmf_fast.data.sources import STANDARD_INPUT, ZIP_STARTS, Archive, RatingsFile, bare_name, file_at
from dmf_fast.files.reading import reading

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

STORE_FACTS = "store.json"
"""The file that makes a folder a store."""

_KNOWN_NAMES = ("ratings.*", "u.data", "combined_data_*.txt", "mv_*.txt", "part-*")
_KNOWN_SUFFIXES = (".csv", ".tsv", ".txt", ".dat", ".data", ".base", ".inter", ".parquet", ".mtx", ".npz")


def ratings_files(source: Source) -> list[RatingsFile]:
    """Return the files of ``source``, a path or several, in the order in which they are read.

    From a folder or a .zip archive, these are the files with the first well-known name that occurs in it
    (such as ``ratings.csv``, ``u.data``, ``combined_data_1.txt``, ``mv_0000001.txt``, ``part-00000``), or
    else all files with the extension of a table, sorted by path. Names that begin with ``.`` or ``_`` are
    skipped, and so are names with something after the extension, such as ``ratings.csv.bak``. ``-`` is
    standard input.
    """
    paths = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    if not paths:
        raise DataError("No file is named; name at least one")
    return [file for path in paths for file in _files_at(Path(path))]


def is_store(source: Source) -> bool:
    """Return whether ``source`` is the path of a store."""
    return isinstance(source, (str, os.PathLike)) and (Path(source) / STORE_FACTS).is_file()


def _files_at(path: Path) -> list[RatingsFile]:
    if str(path) != STANDARD_INPUT and path.is_dir():
        if is_store(path):
            raise DataError(
                f"{printable(path)} is a store of ratings, not a folder of files; open it with open_ratings"
            )
        return _files_in_folder(path)
    file = file_at(path)
    # The kind of a copy is known only from its content.
    if not (path.suffix.lower() == ".zip" or (file.is_copy and _starts(file.path).startswith(ZIP_STARTS))):
        return [file]
    archive = Archive(file)
    with reading(file, "a .zip archive", "download or write it again", DataError):
        members = archive.members
    if any(name.endswith(".npy") for name in members):
        return [file]
    chosen = _tables(file, "archive", members)
    return [replace(file, member=name, archive=archive, partitions=_partitions(name)) for name in chosen]


def _files_in_folder(folder: Path) -> list[RatingsFile]:
    inside = []
    for place, folders, names in os.walk(folder, onerror=_refuse_folder):
        folders[:] = [
            name for name in folders if not is_store(Path(place, name))
        ]  # perhaps a cache of these files
        # Without pipes and devices, on which reading would block.
        inside += [file for file in (Path(place, name) for name in names) if file.is_file()]
    names = [file.relative_to(folder).as_posix() for file in sorted(inside)]
    chosen = _tables(folder, "directory", names)
    return [
        replace(file, partitions=_partitions(name)) if file.member is None else file
        for name in chosen
        for file in _files_at(folder / name)
    ]


def _refuse_folder(error: OSError) -> NoReturn:
    folder = printable(error.filename)
    raise DataError(f"{folder} cannot be read ({error.strerror}); check its permissions")


def _tables(place: object, kind: str, names: list[str]) -> list[str]:
    """Return the names of the files below ``place`` that look like ratings."""
    visible = [name for name in names if not any(p[0] in "._" for p in PurePosixPath(name).parts)]
    tables = [name for name in visible if _is_table(name, archives=kind == "directory")]
    for pattern in _KNOWN_NAMES:
        known = [name for name in tables if fnmatch.fnmatchcase(bare_name(name), pattern)]
        if known:
            return known
    # Only parts written by Hadoop may lack an extension.
    tables = [name for name in tables if PurePosixPath(bare_name(name)).suffix]
    if not tables:
        what = f"an {kind}" if kind == "archive" else f"a {kind}"
        raise DataError(
            f"{printable(place)} is {what} without ratings: files with one of the extensions "
            f"{', '.join(_KNOWN_SUFFIXES)} (possibly compressed) were expected; name the file"
        )
    return tables


def _is_table(name: str, *, archives: bool) -> bool:
    bare = bare_name(name)
    if bare.startswith(("readme", "license")):
        return False
    if archives and bare.endswith(".zip"):
        return True
    return bare.endswith(_KNOWN_SUFFIXES) or (bare.startswith("part-") and "." not in bare)


def _partitions(name: str) -> tuple[tuple[str, str], ...]:
    """Return the columns named by the folders of a path, as written by Hive: ``day=2/part-0.parquet``."""
    pairs = (part.partition("=") for part in PurePosixPath(name).parts[:-1])
    return tuple((key, unquote(value)) for key, equals, value in pairs if key and equals)


def _starts(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)
