"""From what a user names (a file, a folder, an archive, several of these) to the files to read."""

from __future__ import annotations

import fnmatch
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import pyarrow as pa

from dmf_fast.data.errors import DataError

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

STORE_FACTS = "store.json"
"""The file that makes a folder a store."""

_UNREADABLE = (OSError, EOFError, zlib.error, zipfile.BadZipFile, pa.ArrowException, RuntimeError)
_COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")
_KNOWN_NAMES = ("ratings.*", "u.data", "combined_data_*.txt*", "mv_*.txt*", "part-*")
_KNOWN_SUFFIXES = (".csv", ".tsv", ".txt", ".dat", ".data", ".base", ".parquet", ".mtx", ".npz")


@dataclass(frozen=True)
class RatingsFile:
    """A file, or one member of a .zip archive."""

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}: {self.member}"

    @property
    def name(self) -> str:
        """The name without folders and without the ending of a compression."""
        name = self.path.name if self.member is None else PurePosixPath(self.member).name
        return name.removesuffix(Path(name).suffix) if name.endswith(_COMPRESSED) else name

    @contextmanager
    def opened(self, *, decompressed: bool = True) -> Iterator[BinaryIO]:
        """Open the bytes for reading; whatever makes them unreadable is a `DataError`."""
        try:
            if self.member is not None:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as inside:
                    yield cast(BinaryIO, inside)
            elif decompressed and self.path.name.endswith(_COMPRESSED):
                with pa.input_stream(str(self.path), compression="detect") as stream:
                    yield stream
            else:
                with self.path.open("rb") as file:
                    yield file
        except _UNREADABLE as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(
                f"{self} cannot be read ({reason}); check the file and its permissions"
            ) from error

    def first_bytes(self, count: int, *, decompressed: bool = True) -> bytes:
        """Return the first ``count`` bytes, or all where there are fewer."""
        with self.opened(decompressed=decompressed) as file:
            return file.read(count)


def ratings_files(source: Source) -> list[RatingsFile]:
    """Return the files of ``source``, a path or several, in the order in which they are read.

    Of a folder or a .zip archive these are the files of the first well-known name that occurs in it (such as
    ``ratings.csv``, ``u.data``, ``combined_data_1.txt``, ``mv_0000001.txt``, ``part-00000``), or else all
    that end like a table, sorted by path. Names that begin with ``.`` or ``_`` are left out.
    """
    paths = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    if not paths:
        raise DataError("No file is named; name at least one")
    return [file for path in paths for file in _files_at(Path(path))]


def _files_at(path: Path) -> list[RatingsFile]:
    if (path / STORE_FACTS).is_file():
        raise DataError(f"{path} is a store of ratings, not a folder of files; open it with open_ratings")
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file())
        chosen = _tables(path, [p.relative_to(path).as_posix() for p in inside])
        return [file for name in chosen for file in _files_at(path / name)]
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path")
    if path.suffix == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                members = sorted(info.filename for info in archive.infolist() if not info.is_dir())
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{path} is not a whole .zip archive ({error}); download it again") from error
        return [RatingsFile(path, member) for member in _tables(path, members)]
    return [RatingsFile(path)]


def _tables(place: Path, names: list[str]) -> list[str]:
    """Return those names among the files below ``place`` that look like ratings."""
    visible = [name for name in names if not any(p[0] in "._" for p in PurePosixPath(name).parts)]
    for pattern in _KNOWN_NAMES:
        known = [name for name in visible if fnmatch.fnmatchcase(PurePosixPath(name).name.lower(), pattern)]
        if known:
            return known
    tables = [name for name in visible if _is_table(PurePosixPath(name).name.lower())]
    if not tables:
        what = "directory" if place.is_dir() else "archive"
        raise DataError(
            f"{place} is a {what} without ratings: files that end in one of {', '.join(_KNOWN_SUFFIXES)} "
            "(or these compressed) were expected; name the file"
        )
    return tables


def _is_table(name: str) -> bool:
    if name.startswith(("readme", "license")):
        return False
    bare = name.removesuffix(Path(name).suffix) if name.endswith(_COMPRESSED) else name
    return bare.endswith(_KNOWN_SUFFIXES) or name.endswith(".zip")
