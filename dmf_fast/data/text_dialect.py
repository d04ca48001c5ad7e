"""Detects the dialect of a text table: comments, separator, header."""

from __future__ import annotations

import csv
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from dmf_fast.data.column_choice import are_known
from dmf_fast.data.errors import DataError, EmptyFileError, shown
from dmf_fast.data.options import ReadOptions
from dmf_fast.data.sources import RatingsFile
from dmf_fast.data.text_blocks import utf8_pieces

_SEPARATORS = (("::",), ("\t",), (",", ";", "|"), (" ",))
_SAMPLE_BYTES = 1 << 16
_SAMPLE_LINES = 20
_MOST_COLUMNS = 10_000
_LINE_END = re.compile(r"\r\n|\n|\r")
_COMMENT = re.compile(r"[#%]+(?=[\s#%]|$)")
_TYPE_OF_RECBOLE = re.compile(r":(token|float)(_seq)?$")
_NO_VALUES = ("", "?", "-", "na", "n/a", "none", "null")
_BLANKS = re.compile(rb'("[^"\n]*")|(^ +| +(?=\r?$))| +', re.MULTILINE)


@dataclass(frozen=True)
class TextDialect:
    """The dialect of a text table.

    ``names`` are those of the header, if there is one; ``skipped_lines`` is the number of lines before the
    first data line; ``sample`` holds the cells of some data lines.
    """

    separator: str
    names: list[str] | None
    width: int
    skipped_lines: int
    sample: list[list[str]]

    @property
    def delimiter(self) -> str:
        """The separator as one byte, as pyarrow requires."""
        return self.separator if len(self.separator.encode()) == 1 else "\x1f"

    @property
    def empty_line(self) -> re.Pattern[bytes]:
        """Pattern of a line without cells."""
        return re.compile(rb" *\r?" if self.separator == " " else rb"\r?")

    def example(self, position: int) -> str:
        """Return the first nonempty cell of a column, trimmed."""
        cells = (cells[position].strip() for cells in self.sample if position < len(cells))
        return next((cell for cell in cells if cell), "")

    def delimited(self, data: bytes) -> bytes:
        """Return the lines with `delimiter` as separator; several blanks count as one."""
        if self.separator == " ":
            return _with_single_blanks(data)
        if self.delimiter == self.separator:
            return data
        return data.replace(self.separator.encode(), self.delimiter.encode())


def sniff(file: RatingsFile, lines: list[str], options: ReadOptions, count: int) -> TextDialect:
    """Return the dialect of the table in ``file``, of which ``count`` columns are wanted.

    It is detected from the `first_lines`, by the rules of `ReadOptions`.
    """
    comments = _comments(lines, count)
    filled = list(islice((line for line in lines[comments:] if line.strip()), _SAMPLE_LINES))
    if not filled:
        raise EmptyFileError(
            f"{file} is empty, but lines of row, column and value were expected; check the file"
        )
    separator = options.separator or _guess_separator(file, filled, options, count)
    cells = [_split(line, separator) for line in filled]
    width = len(cells[0])
    if width > _MOST_COLUMNS:
        raise DataError(
            f"{file} has {width} columns, but a table of row, column and value was expected; save a whole "
            "matrix as .npz or .mtx"
        )
    names = _header(file, filled, cells, options, count)
    if names is not None and len(cells) == 1:
        raise EmptyFileError(
            f"{file} is empty below its header {shown(filled[0].strip())}; add the data lines"
        )
    skipped = lines.index(filled[0], comments) + (names is not None)
    if names is None and comments:
        names = _commented_header(lines[:comments], separator, width, count)
        skipped = comments
    elif names is not None:
        cells = cells[1:]
    return TextDialect(separator, names, width, skipped_lines=skipped, sample=cells)


def first_lines(file: RatingsFile, encoding: str | None) -> list[str]:
    """Return the first lines, without a last line that the sample cuts in two.

    Bytes that are invalid in the encoding become replacement characters, as they may be in unused columns.
    """
    with closing(utf8_pieces(file, encoding, _SAMPLE_BYTES)) as pieces:
        sample, more = next(pieces, b""), next(pieces, b"")
    if more == b"\n":  # a carriage return at the end, perhaps followed by a line feed
        sample, more = sample + more, b""
    if more and not sample.endswith(b"\n"):
        sample = sample[: sample.rfind(b"\n") + 1]
        if not sample:
            raise DataError(
                f"{file} has a first line of more than {_SAMPLE_BYTES >> 10} kB: this is not a table of row, "
                "column and value; save a whole matrix as .npz or .mtx"
            )
    # Not splitlines, which also splits at U+2028 and others: these may occur in ids.
    return _LINE_END.split(sample.decode(errors="replace"))


def _header(
    file: RatingsFile, lines: list[str], cells: list[list[str]], options: ReadOptions, count: int
) -> list[str] | None:
    """Return the names of the columns if the first line is a header."""
    names, columns = header_names(cells[0]), options.columns or ()
    if are_known(names, count) or any(column in names and not column.isdecimal() for column in columns):
        return names
    if any(_is_number(cell) for cell in cells[0]):
        return None
    if count == 2:
        others = any(_is_number(cell) for line in cells[1:] for cell in line)
        if options.columns is None or others:
            warnings.warn(
                f"{file}: the first line, {shown(lines[0])}, is read as a pair, as it has no well-known "
                "names; pass --columns with names if it is a header, or else with positions: 1,2.",
                UserWarning,
                stacklevel=2,
            )
        return None
    position = int(columns[2]) - 1 if len(columns) > 2 and columns[2].isdecimal() else 2
    is_without_value = position < len(names) and names[position].lower() in _NO_VALUES
    return None if is_without_value and (columns or len(names) <= 4) else names


def header_names(cells: Sequence[str]) -> list[str]:
    """Return the names in a header, without the types that RecBole appends to them."""
    return [_TYPE_OF_RECBOLE.sub("", cell.strip().strip("\ufeff").strip()) for cell in cells]


def _comments(lines: list[str], count: int) -> int:
    """Return the number of lines before the table: comments, and empty lines among them.

    Comments begin with ``#`` or ``%``. If a letter follows, it may be an id; then the line is a comment only
    if it has no number, as ratings have one.
    """
    comments = 0
    for number, line in enumerate(lines):
        text = line.strip()
        if not text:
            continue
        if not _COMMENT.match(text):
            numbers = any(_is_number(cell) for cell in re.split(r"::|[\t,;| ]", text))
            if text[0] not in "#%" or numbers or (count == 2 and not _is_commented_header(text, count)):
                break
        comments = number + 1
    return comments


def _is_commented_header(text: str, count: int) -> bool:
    return are_known(header_names(re.split(r"::|[\t,;| ]+", text.lstrip("#% "))), count)


def _commented_header(comments: list[str], separator: str, width: int, count: int) -> list[str] | None:
    """Return the names in the last comment, if they are column names."""
    last = next((line.strip() for line in reversed(comments) if line.strip()), "")
    names = header_names(_split(last.lstrip("#% "), separator))
    return names if len(names) == width and are_known(names, count) else None


def _guess_separator(file: RatingsFile, lines: list[str], options: ReadOptions, count: int) -> str:
    """Return the separator that splits all lines, or else most of them, into equally many cells."""
    shares = {separator: _share(lines, separator, count) for kind in _SEPARATORS for separator in kind}
    if not any(shares.values()):  # too few columns, which is reported later
        shares = {separator: _share(lines, separator, 2) for separator in shares}
    for kinds in (_SEPARATORS[:-1], _SEPARATORS[-1:]):
        for least in (1.0, 0.5):
            for kind in kinds:
                best = max(shares[separator] for separator in kind)
                if best >= least:
                    fitting = [separator for separator in kind if shares[separator] == best]
                    return _decided(file, lines, fitting, count)
    for separator in shares:
        if separator in lines[0].strip():
            return separator
    raise DataError(
        f"{file} has one column, but row, column and value were expected, separated by a tab, comma, "
        "semicolon, '|', blanks or '::'; add the missing columns or pass --separator"
    )


def _share(lines: list[str], separator: str, count: int) -> float:
    """Return the share of lines with the most common number of cells, if that is at least ``count``."""
    if not any(separator in line for line in lines):
        return 0.0
    width, times = Counter(len(_split(line, separator)) for line in lines).most_common(1)[0]
    return times / len(lines) if width >= count else 0.0


def _decided(file: RatingsFile, lines: list[str], separators: list[str], count: int) -> str:
    """Return the separator with which the lines have a known header, or hold ratings."""
    cells = {separator: [_split(line, separator) for line in lines] for separator in separators}
    named = [one for one in separators if are_known(header_names(cells[one][0]), count)]
    separators = named or separators
    if count > 2:
        rated = [one for one in separators if _all_have_numbers(cells[one][1:] or cells[one])]
        separators = rated or separators
    if len(separators) == 1:
        return separators[0]
    found = " or ".join(f"{separator!r} ({len(cells[separator][0])} columns)" for separator in separators)
    raise DataError(f"{file} may be separated by {found}; choose one with --separator")


def _all_have_numbers(cells: list[list[str]]) -> bool:
    return all(any(map(_is_number, line)) for line in cells)


def _split(line: str, separator: str) -> list[str]:
    if separator == " ":
        line = _with_single_blanks(line.encode()).decode()
    if len(separator) > 1:
        return line.split(separator)
    cells: list[str] = next(csv.reader([line], delimiter=separator))
    return cells


def _with_single_blanks(data: bytes) -> bytes:
    """Return lines without outer blanks and with single inner blanks, except in quotes."""
    at_an_end = data[:1] == b" " or data[-1:] == b" "
    if not (at_an_end or any(blanks in data for blanks in (b"  ", b"\n ", b" \n", b" \r"))):
        return data
    return _BLANKS.sub(lambda found: found[1] or (b" " if found[2] is None else b""), data)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
