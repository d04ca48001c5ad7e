"""Sources of ratings: files, members of archives and pipes, decompressed up to a limit."""

from __future__ import annotations

import codecs
import errno
import io
import lzma
import os
import re
import stat
import sys
import tempfile
import weakref
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from dmf_fast.checks import printable
from dmf_fast.data.errors import DataError

STANDARD_INPUT = "-"
ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
COMPRESSED_ENDINGS = (".gz", ".bz2", ".xz", ".zst", ".lz4")

_COMPRESSIONS = {
    "gzip": re.compile(rb"\x1f\x8b"),
    "bz2": re.compile(rb"BZh[1-9](1AY&SY|\x17\x72\x45\x38\x50\x90)"),
    "xz": re.compile(rb"\xfd7zXZ\0"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
    "lz4": re.compile(rb"\x04\x22\x4d\x18"),
}
_START_BYTES = 16
_BLOCK_BYTES = 1 << 20
_LONGEST_MEMBER = 200  # characters of its name in errors
# Ratings compress to between a half and a twentieth of their size; files that expand further are traps.
_MOST_EXPANSION = 50
_FREE_BYTES = 1 << 26


def check_expansion(file: object, expanded: int, stored: int) -> None:
    """Raise a `DataError` if ``expanded`` bytes are far more than the ``stored`` bytes they are read from.

    Up to 64 MB are always allowed, except for members of archives, of which there may be many.
    """
    most = _MOST_EXPANSION * stored + (_FREE_BYTES if getattr(file, "member", None) is None else 0)
    if expanded > most:
        raise DataError(
            f"{file} expands from {stored} to more than {most} bytes, which is implausible for ratings; if "
            "it is intended, decompress the file first"
        )


class Archive:
    """A .zip archive, such as an .npz file, whose directory is read once and checked.

    Raises any error of reading it, and a `ValueError` if it names a member twice or its members overlap.
    """

    def __init__(self, file: RatingsFile) -> None:
        self._file = file

    @cached_property
    def _opened(self) -> zipfile.ZipFile:
        archive = zipfile.ZipFile(self._file.path)
        infos = archive.infolist()
        if len({info.filename for info in infos}) < len(infos):
            raise ValueError("it holds two members of one name")
        stored = self._file.path.stat().st_size
        if sum(info.compress_size for info in infos) > stored:
            raise ValueError("its members overlap")
        check_expansion(self._file, sum(info.file_size for info in infos), stored)
        return archive

    @property
    def members(self) -> list[str]:
        """The sorted names of all members except folders."""
        return sorted(info.filename for info in self._opened.infolist() if not info.is_dir())

    def stored_bytes(self, member: str) -> int:
        """Return the number of bytes that a member takes in the archive."""
        return self._opened.getinfo(member).compress_size

    def opened(self, member: str) -> BinaryIO:
        """Return an open member."""
        method = self._opened.getinfo(member).compress_type
        # For other methods, Python decompresses whole blocks, regardless of what these expand to.
        if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            packed = replace(self._file, member=member)
            raise DataError(f"{packed} is not compressed with deflate; decompress it first")
        return cast(BinaryIO, self._opened.open(member))

    def __reduce__(self) -> Any:
        """Return the state from which other processes can open it."""
        return Archive, (self._file,)


@dataclass(frozen=True)
class RatingsFile:
    """A file, a member of an ``archive``, or the copy of a pipe, which is removed with its last reference.

    ``title``: its name in errors, if that is not the path. ``partitions``: names and values of columns that
    are named by folders, such as ``day=2``. ``block_bytes``: bytes of text to read at once.
    """

    path: Path
    member: str | None = None
    title: str | None = None
    partitions: tuple[tuple[str, str], ...] = ()
    block_bytes: int | None = field(default=None, compare=False, repr=False)
    archive: Archive | None = field(default=None, compare=False, repr=False)
    _copy: _TemporaryCopy | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        title = str(self.path) if self.title is None else self.title
        if self.member is None:
            return printable(title)
        short = self.member if len(self.member) <= _LONGEST_MEMBER else f"{self.member[:_LONGEST_MEMBER]}…"
        return printable(f"{title}: {short}")

    @property
    def name(self) -> str:
        """The name in lower case, without folders and the extension of a compression."""
        return bare_name(self.member or self.title or str(self.path))

    @property
    def is_copy(self) -> bool:
        """Whether it is the copy of a pipe, which cannot be read twice."""
        return self._copy is not None

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open the bytes for reading, decompressed if their first bytes are those of a compression.

        Their expanded size is limited, see `check_expansion`. Raises any error of reading them.
        """
        with ExitStack() as stack:
            stored = stack.enter_context(self._stored())
            start = stored.read(_START_BYTES)
            stored.seek(0)
            kind = next((name for name, magic in _COMPRESSIONS.items() if magic.match(start)), None)
            if kind is None:
                ending = Path(self.member or self.title or self.path).suffix.lower()
                if ending in COMPRESSED_ENDINGS and start:
                    raise DataError(
                        f"{self} cannot be read: its first bytes are not those of a {ending} file; check it"
                    )
                yield stored
                return
            unpacked = stack.enter_context(self._unpacked(stored, kind))
            yield cast(BinaryIO, _Bounded(unpacked, self))

    def first_bytes(self, count: int) -> bytes:
        """Return the first ``count`` bytes, decompressed, or all bytes if there are fewer."""
        with self.opened() as file:
            return file.read(count)

    def on_disk(self) -> RatingsFile:
        """Return a plain file with the same bytes, decompressed: for readers that seek."""
        with self.opened() as stream:
            if isinstance(stream, _Bounded) or self.member is not None:
                return _copied(stream, str(self))
        return self

    @property
    def stored_bytes(self) -> int:
        """Number of bytes that it takes on disk or in its archive."""
        if self.archive is not None and self.member is not None:
            return self.archive.stored_bytes(self.member)
        return self.path.stat().st_size

    def _stored(self) -> BinaryIO:
        if self.archive is not None and self.member is not None:
            return self.archive.opened(self.member)
        return self.path.open("rb")

    def _unpacked(self, stored: BinaryIO, kind: str) -> Any:
        if kind == "xz":
            return lzma.LZMAFile(stored)
        if self.member is None:
            return pa.input_stream(str(self.path), compression=kind)  # without Python between the blocks
        return pa.CompressedInputStream(pa.PythonFile(stored, mode="r"), kind)


def file_at(path: Path) -> RatingsFile:
    """Return the file at ``path``; a pipe or standard input (``-``) is copied, as it can be read only once.

    Raises a `DataError` if the path does not exist or is a device or a socket; and `OSError`.
    """
    if str(path) == STANDARD_INPUT:
        return _copied(_standard_input(), "standard input")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise DataError(f"{printable(path)} does not exist; check the path") from error
    if stat.S_ISREG(mode):
        return RatingsFile(path)
    if stat.S_ISFIFO(mode):
        with path.open("rb") as pipe:
            return _copied(pipe, str(path))
    raise DataError(
        f"{printable(path)} is a device or a socket, but a file, a folder or a pipe was expected; write "
        f"its bytes to a file, or to standard input, which is named {STANDARD_INPUT}"
    )


def bare_name(name: str) -> str:
    """Return a name in lower case, without folders and the extension of a compression.

    >>> bare_name("data/Ratings.CSV.gz")
    'ratings.csv'
    """
    bare = name.rpartition("/")[2].lower()
    start, dot, ending = bare.rpartition(".")
    return start if dot + ending in COMPRESSED_ENDINGS else bare


def _standard_input() -> BinaryIO:
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise DataError("standard input is closed: pipe the ratings into it, or name a file")
    if _is_device(stream):
        raise DataError("standard input is a device: pipe the ratings into it, or name a file")
    return cast(BinaryIO, stream)


def _is_device(stream: Any) -> bool:
    """Return whether a stream may be endless, like /dev/zero; a terminal and /dev/null are not."""
    try:
        descriptor = stream.fileno()
        state = os.fstat(descriptor)
    except (OSError, ValueError):  # not a file of the operating system
        return False
    ends = os.isatty(descriptor) or os.path.samestat(state, os.stat(os.devnull))
    return stat.S_ISCHR(state.st_mode) and not ends


def _copied(stream: BinaryIO, title: str) -> RatingsFile:
    """Return a temporary file with the bytes of a stream."""
    copy = _TemporaryCopy()
    try:
        with copy.path.open("wb") as file:
            while block := stream.read(_BLOCK_BYTES):
                file.write(block)
                if file.tell() == len(block) and b"\0" in block and not _is_known_kind(block):
                    break  # not ratings: the reader rejects it, and it may be endless
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            errno.ENOSPC,
            f"{copy.path.parent} has no space for {printable(title)}; set TMPDIR to a folder that has",
        ) from error
    return RatingsFile(copy.path, title=title, _copy=copy)


def _is_known_kind(start: bytes) -> bool:
    """Return whether a file with NUL bytes may hold ratings: Parquet, an archive, UTF-16."""
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        with suppress(UnicodeError):
            if "\0" not in codecs.getincrementaldecoder(encoding)().decode(start):
                return True
    return start.startswith((b"PAR1", *ZIP_STARTS)) or any(
        magic.match(start) for magic in _COMPRESSIONS.values()
    )


class _TemporaryCopy:
    """A temporary file that is removed with its last reference, at the latest when the process ends."""

    def __init__(self) -> None:
        descriptor, name = tempfile.mkstemp(prefix="dmf_fast-")
        os.close(descriptor)
        self.path = Path(name)
        weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a process forked from it
        path.unlink(missing_ok=True)


class _Bounded(io.BufferedIOBase):
    """A decompressed stream that raises a `DataError` if it expands too far."""

    def __init__(self, stream: Any, file: RatingsFile) -> None:
        self._stream = stream
        self._file = file
        self._stored = min(file.stored_bytes, file.path.stat().st_size)
        self._expanded = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        data: bytes = self._stream.read(size)
        self._expanded += len(data)
        check_expansion(self._file, self._expanded, self._stored)
        return data
