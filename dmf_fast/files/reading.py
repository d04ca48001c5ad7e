"""Reading of untrusted files: every fault becomes one error that names the file."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from dmf_fast.checks import printable, shortened

Record = TypeVar("Record")
Finite = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
"""A number in a record, neither NaN nor infinite."""

_LONGEST_REASON = 300


@contextmanager
def reading(file: object, kind: str, advice: str, error: type[ValueError] = ValueError) -> Iterator[None]:
    """Convert any exception that a block raises while it reads ``file`` to an ``error``.

    All exceptions are converted, since parsers raise almost anything for a hostile file. The message is
    ``FILE is not KIND, or is damaged (REASON); ADVICE``. An ``error`` that already names the file is
    unchanged. If memory runs out, a `MemoryError` names the file, which may be intact.

    >>> with reading("run.json", "a record of a run", "write it again"):
    ...     [][0]
    Traceback (most recent call last):
    ValueError: run.json is not a record of a run, or is damaged (list index out of range); write it again
    """
    name = printable(file)
    try:
        yield
    except Exception as raised:
        if isinstance(raised, error) and name in str(raised):
            raise
        reason = short_reason(raised)
        if isinstance(raised, MemoryError) or getattr(raised, "errno", None) == errno.ENOMEM:
            raise MemoryError(
                f"there is not enough memory to read {name}, if it is intact ({reason})"
            ) from raised
        is_part_missing = isinstance(raised, FileNotFoundError) and str(raised.filename) != str(file)
        if isinstance(raised, OSError) and raised.strerror and not is_part_missing:
            raise error(f"{name} cannot be read ({reason}); check the file and its permissions") from raised
        raise error(f"{name} is not {kind}, or is damaged ({reason}); {advice}") from raised


def short_reason(raised: BaseException) -> str:
    """Return the message of an error, shortened, on one line and without control characters.

    >>> short_reason(KeyError("depth")), short_reason(EOFError())
    ("KeyError: 'depth'", 'EOFError')
    """
    text = getattr(raised, "strerror", None) or str(raised)
    text = printable(" ".join(str(text).split()))
    text = shortened(text, _LONGEST_REASON)
    if isinstance(raised, KeyError):  # its message is only the key
        return f"KeyError: {text}"
    if isinstance(raised, FileNotFoundError) and raised.filename:
        return f"{text}: {printable(os.path.basename(str(raised.filename)))}"
    return text or type(raised).__name__


def record_of(text: str | bytes, kind: type[Record]) -> Record:
    """Parse JSON as a ``kind``, such as a `msgspec.Struct`, checking types and ranges.

    Raises errors that `reading` converts, mostly `ValueError`.

    >>> record_of('{"a": 1}', dict[str, int])
    {'a': 1}
    """
    return msgspec.convert(json.loads(text), kind, str_keys=True)


def read_record(path: Path, kind: type[Record]) -> Record:
    """Parse a UTF-8 JSON file as a ``kind``; see `record_of`."""
    return record_of(path.read_text(encoding="utf-8"), kind)
