"""Splits a text into blocks of whole lines, so that a file of any size needs the memory of one block."""

from __future__ import annotations

import codecs
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import chain, islice

from dmf_fast.data.errors import DataError
from dmf_fast.data.sources import RatingsFile
from dmf_fast.files.reading import reading

BLOCK_BYTES = 1 << 24
_LONGEST_LINE = 1 << 26
# Longest first: the mark of UTF-16 is a prefix of that of UTF-32.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class TextBlock:
    """Whole lines, and the number of lines before them in the file."""

    data: bytes
    lines_before: int

    def pieces(self, count: int) -> Iterator[TextBlock]:
        """Split the block into about ``count`` pieces."""
        start, lines_before = 0, self.lines_before
        while start < len(self.data):
            cut = self.data.find(b"\n", start + len(self.data) // count)
            end = cut + 1 if cut >= 0 else len(self.data)
            piece = self.data[start:end]
            yield TextBlock(piece, lines_before)
            start, lines_before = end, lines_before + piece.count(b"\n")


def text_blocks(
    file: RatingsFile, skipped_lines: int = 0, encoding: str | None = None
) -> Iterator[TextBlock]:
    """Yield the lines of ``file`` after the first ``skipped_lines``, in the form of `utf8_pieces`."""
    lines_before, rest = 0, b""
    for piece in chain(utf8_pieces(file, encoding, file.block_bytes or BLOCK_BYTES), [b""]):
        data = rest + piece
        end = data.rfind(b"\n") + 1 if piece else len(data)
        data, rest = data[:end], data[end:]
        if len(rest) > _LONGEST_LINE:
            raise DataError(
                f"{file} has a line of more than {_LONGEST_LINE >> 20} MB: this is not a text table"
            )
        start = 0
        while lines_before < skipped_lines and start < len(data):
            start = data.find(b"\n", start) + 1 or len(data)
            lines_before += 1
        data = data[start:]
        if data:
            yield TextBlock(data, lines_before)
            lines_before += data.count(b"\n")


def utf8_pieces(file: RatingsFile, encoding: str | None, size: int) -> Generator[bytes, None, None]:
    """Yield a text as UTF-8, ``size`` bytes of the file at a time, without its byte order mark.

    ``encoding`` None is UTF-8, or that of a byte order mark. Lines end in LF or CRLF: a lone CR becomes LF.
    Bytes that are invalid in ``encoding`` become invalid UTF-8. A NUL is a `DataError`.
    """
    with file.opened() as stream:
        first = stream.read(max(size, 4))  # at least a byte order mark
        encoding = _encoding(first, encoding)
        decoder = None if encoding is None else codecs.getincrementaldecoder(encoding)("surrogateescape")
        held, started = b"", False
        for read in chain([first], iter(lambda: stream.read(size), b""), [b""]):
            data = read
            if decoder is not None:
                with reading(file, f"a text in {encoding}", "pass its encoding with --encoding", DataError):
                    data = decoder.decode(read, final=not read).encode("utf-8", "surrogateescape")
            data = held + data
            if not started and data:
                data, started = data.removeprefix(codecs.BOM_UTF8), True
            if b"\0" in data:
                raise DataError(_binary(file))
            if b"\r" in data:
                # Only the next piece tells whether the last one is alone.
                held = b"\r" if read and data.endswith(b"\r") else b""
                data = _without_lone_returns(data.removesuffix(held))
            else:
                held = b""
            if data:
                yield data


def _encoding(first: bytes, encoding: str | None) -> str | None:
    """Return the encoding to decode from, judging by the first bytes of a text; None for UTF-8."""
    if encoding is None:
        return next((name for mark, name in _MARKS if first.startswith(mark)), None)
    return None if codecs.lookup(encoding).name == "utf-8" else encoding


def _without_lone_returns(data: bytes) -> bytes:
    if data.count(b"\r") == data.count(b"\r\n"):
        return data
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _binary(file: RatingsFile) -> str:
    return (
        f"{file} is a binary file of unknown kind (it holds NUL bytes): a text table, Parquet, Matrix Market "
        "(.mtx) or SciPy (.npz) was expected; convert it to one of these, or pass --encoding if it is a "
        "text in another encoding, such as utf-16"
    )


def count_filled(data: bytes) -> int:
    """Count the lines that are not empty."""
    if data[:1] in (b"\r", b"\n") or b"\n\n" in data or b"\n\r\n" in data:
        return sum(line not in (b"", b"\r") for line in data.split(b"\n"))
    return data.count(b"\n") + (data != b"" and not data.endswith(b"\n"))


@dataclass(frozen=True)
class LineOfFile:
    """Describes where entry k after ``lines_before`` is; its line is searched for in the file on demand.

    ``skipped_lines`` are those of the header; lines that match ``without``, and empty lines, are not entries.
    """

    file: RatingsFile
    skipped_lines: int
    lines_before: int
    without: re.Pattern[bytes] = re.compile(rb"\r?")
    encoding: str | None = None

    def __call__(self, entry: int) -> str:
        """Return the name of the file and the number of the line."""
        number = next(islice(self._numbers(), entry, None), None)
        if number is None:
            raise DataError(f"{self.file} has changed while it was read; read it again")
        return f"{self.file}, line {number}"

    def _numbers(self) -> Iterator[int]:
        """Yield the numbers of all lines that are entries."""
        for block in text_blocks(self.file, self.skipped_lines, self.encoding):
            if block.lines_before + block.data.count(b"\n") < self.lines_before:
                continue
            for number, line in enumerate(block.data.split(b"\n"), start=block.lines_before + 1):
                if number > self.lines_before and line.strip(b"\r") and not self.without.fullmatch(line):
                    yield number
