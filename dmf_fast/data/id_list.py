"""Reads a text file of ids, one per line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dmf_fast.data.column_choice import is_id_name
from dmf_fast.data.errors import DataError
from dmf_fast.data.raw_ids import id_array
from dmf_fast.data.sources import file_at
from dmf_fast.data.text_blocks import text_blocks
from dmf_fast.data.text_dialect import header_names
from dmf_fast.files.reading import reading


def read_id_list(source: str | os.PathLike[str]) -> Any:
    """Return the ids of a text file, one per line, in their order.

    They follow the rules of `dmf_fast.data.raw_ids`. Empty lines, a header with a well-known name, such as
    ``userId``, and quotation marks around a whole line are ignored.

    Args:
        source: the file; ``-`` is standard input.

    Returns:
        A pyarrow array of large_string, of length ``len``, the number of ids.

    Raises:
        DataError: the file cannot be read, or holds no ids.

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "users.txt"
        ...     size = path.write_text(chr(10).join(["ann", " 7.0 "]))
        ...     read_id_list(path).to_pylist()
        ['ann', '7']

    """
    file = file_at(Path(source))
    with reading(file, "a text file with one id per line", "save it as one, UTF-8", DataError):
        lines = [line for block in text_blocks(file) for line in block.data.split(b"\n")]
        text = pa.array([_unquoted(line) for line in lines], pa.large_binary()).cast(pa.large_string())
    ids = id_array(text)
    ids = ids.filter(pc.not_equal(ids, ""))
    if len(ids) and is_id_name(header_names([ids[0].as_py()])[0]):
        ids = ids[1:]
    if not len(ids):
        raise DataError(f"{file} holds no ids; write one per line")
    return ids


def _unquoted(line: bytes) -> bytes:
    line = line.strip()
    if len(line) > 1 and line[:1] == line[-1:] == b'"':
        return line[1:-1].replace(b'""', b'"')
    return line
