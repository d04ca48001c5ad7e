"""Cuts a text into blocks of whole lines, so that a file of any size needs the memory of one block."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from dmf_fast.data.errors import DataError
from dmf_fast.data.sources import RatingsFile

BLOCK_BYTES = 1 << 24
_LONGEST_LINE = 1 << 26


@dataclass(frozen=True)
class TextBlock:
    """Whole lines, and how many lines of the file lie before them."""

    data: bytes
    lines_before: int

    def pieces(self, count: int) -> Iterator[TextBlock]:
        """Cut the block into about ``count`` ones."""
        start, lines_before = 0, self.lines_before
        while start < len(self.data):
            cut = self.data.find(b"\n", start + len(self.data) // count)
            end = cut + 1 if cut >= 0 else len(self.data)
            piece = self.data[start:end]
            yield TextBlock(piece, lines_before)
            start, lines_before = end, lines_before + piece.count(b"\n")


def text_blocks(file: RatingsFile, skipped_lines: int = 0) -> Iterator[TextBlock]:
    """Yield the lines of ``file`` behind the first ``skipped_lines``, without a byte order mark."""
    lines_before, rest = 0, b""
    with file.opened() as stream:
        while True:
            read = stream.read(BLOCK_BYTES)
            data = rest + read
            if lines_before == 0:
                data = data.removeprefix(b"\xef\xbb\xbf")
            end = data.rfind(b"\n") + 1 if read else len(data)
            data, rest = data[:end], data[end:]
            if len(rest) > _LONGEST_LINE:
                raise DataError(
                    f"{file} has a line of more than {_LONGEST_LINE >> 20} MB: this is not a text table"
                )
            while lines_before < skipped_lines and data:
                data = data[data.find(b"\n") + 1 or len(data) :]
                lines_before += 1
            if data:
                yield TextBlock(data, lines_before)
                lines_before += data.count(b"\n")
            if not read:
                return


def count_filled(data: bytes) -> int:
    """Count the lines that are not empty."""
    if data[:1] in (b"\r", b"\n") or b"\n\n" in data or b"\n\r\n" in data:
        return sum(line not in (b"", b"\r") for line in data.split(b"\n"))
    return data.count(b"\n") + (data != b"" and not data.endswith(b"\n"))


@dataclass(frozen=True)
class LineOfFile:
    """The place of entry k behind ``lines_before``: its line is looked for in the file again, as few ask.

    ``skipped_lines`` are those of the header; lines that match ``without`` are no entries, and neither are
    empty ones.
    """

    file: RatingsFile
    skipped_lines: int
    lines_before: int
    without: re.Pattern[bytes] = re.compile(rb"\r?")

    def __call__(self, entry: int) -> str:
        """Return the name of the file and the number of the line."""
        number = next(islice(self._numbers(), entry, None), None)
        if number is None:
            raise DataError(f"{self.file} has changed while it was read; read it again")
        return f"{self.file}, line {number}"

    def _numbers(self) -> Iterator[int]:
        """Yield the numbers of all lines that are entries."""
        for block in text_blocks(self.file, self.skipped_lines):
            if block.lines_before + block.data.count(b"\n") < self.lines_before:
                continue
            for number, line in enumerate(block.data.split(b"\n"), start=block.lines_before + 1):
                if number > self.lines_before and line.strip(b"\r") and not self.without.fullmatch(line):
                    yield number
